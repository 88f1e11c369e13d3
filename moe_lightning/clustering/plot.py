"""Scatter of the training utterances, coloured by cluster."""

from pathlib import Path
from typing import Any

import numpy as np

from moe_lightning.clustering.umap_layout import umap_layout

# Okabe and Ito, "Color Universal Design" (2008): eight colours that colour-blind readers tell apart,
# the yellow left for last because it is faint on white. More clusters repeat them with another marker.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
NOISE_COLOUR = "#BBBBBB"
MOST_POINTS = 5000
ROWS_OF_LEGEND = 16


def layout_2d(points_NR: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Two coordinates a point, (N, 2): the first principal directions, or UMAP."""
    if method == "umap":
        return umap_layout(points_NR, 2, seed, min_dist=0.5)
    centred_NR = points_NR - points_NR.mean(axis=0)
    directions_RR = np.linalg.eigh(centred_NR.T @ centred_NR)[1][:, ::-1]
    return np.pad(centred_NR @ directions_RR, ((0, 0), (0, 2)))[:, :2]


def plot_clusters(points_NR: np.ndarray, labels_N: np.ndarray, method: str, title: str, seed: int, path: Path) -> None:
    """Draw the scatter into a PNG file; of more than 5,000 points, a random 5,000.

    Args:
        labels_N: -1 is noise, drawn grey and under the others.
        method: ``umap`` or ``pca``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    kept = np.sort(np.random.default_rng(seed).permutation(len(points_NR))[:MOST_POINTS])
    xy_N2 = layout_2d(points_NR[kept], method, seed)
    clusters, counts = np.unique(labels_N, return_counts=True)
    columns = -(-len(clusters) // ROWS_OF_LEGEND)
    figure = Figure(figsize=(7.6 + 1.2 * columns, 6.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for cluster, count in zip(clusters.tolist(), counts.tolist(), strict=True):
        _scatter(axes, xy_N2[labels_N[kept] == cluster], cluster, count)
    _label_clusters(axes, xy_N2, labels_N[kept])
    _finish(axes, title, method, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _scatter(axes: Any, xy_N2: np.ndarray, cluster: int, count: int) -> None:
    if cluster == -1:
        style = {"c": NOISE_COLOUR, "marker": ".", "zorder": 1, "label": f"noise ({count})"}
    else:
        colour = COLOURS[cluster % len(COLOURS)]
        marker = MARKERS[cluster // len(COLOURS) % len(MARKERS)]
        style = {"c": colour, "marker": marker, "zorder": 2, "label": f"{cluster} ({count})"}
    size = 26 if len(xy_N2) < 500 else 12
    axes.scatter(xy_N2[:, 0], xy_N2[:, 1], s=size, alpha=0.8, linewidths=0.3, edgecolors="white", **style)


def _label_clusters(axes: Any, xy_N2: np.ndarray, labels_N: np.ndarray) -> None:
    """The number of each cluster, beside the point nearest to its median."""
    from matplotlib.patheffects import withStroke

    for cluster in np.unique(labels_N[labels_N >= 0]):
        own_N2 = xy_N2[labels_N == cluster]
        middle_2 = own_N2[np.linalg.norm(own_N2 - np.median(own_N2, axis=0), axis=1).argmin()]
        style = {"textcoords": "offset points", "fontsize": 10, "fontweight": "bold", "zorder": 3}
        outline = [withStroke(linewidth=3, foreground="white")]
        axes.annotate(str(cluster), middle_2, xytext=(5, 5), path_effects=outline, **style)


def _finish(axes: Any, title: str, method: str, columns: int) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(f"{method.upper()} 1")
    axes.set_ylabel(f"{method.upper()} 2")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.04)
    legend = axes.legend(
        title="cluster (utterances)",
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        ncols=columns,
        fontsize=9,
        frameon=False,
    )
    for handle in legend.legend_handles:
        handle.set_sizes([36])
        handle.set_alpha(1)
