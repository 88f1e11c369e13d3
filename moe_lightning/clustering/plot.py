"""Scatter plots of the training utterances."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.speakers import speaker_means
from moe_lightning.clustering.umap_layout import umap_layout

# Okabe and Ito, "Color Universal Design" (2008): eight colours that colour-blind readers can distinguish,
# yellow last because it is faint on white. More clusters repeat them with another marker.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
UNKNOWN_COLOUR = "#BBBBBB"
MOST_POINTS = 3_000
ROWS_OF_LEGEND = 16
MIN_DIST = 0.5
"""For UMAP: keeps points apart, so that each stays visible."""
SEED_SPACING = 0.004
"""Distance between the points of a group, as a share of the picture."""
NUMBER_SIZE = np.array([0.05, 0.045])
"""Room for a cluster's number, as shares of the picture's width and height."""
MOST_PUSHES = 500


class Layout(NamedTuple):
    """Drawn points, and their coordinates."""

    rows: np.ndarray
    """Indices into all points; a random 3,000 if there are more."""
    xy_N2: np.ndarray
    method: str
    """``umap`` or ``pca``."""


def lay_out(points_NR: np.ndarray, method: str, seed: int, groups: Sequence[str] | None = None) -> Layout:
    """Two coordinates per point: the first principal directions, or UMAP.

    Args:
        groups: Group per point, if a group's points lie together. UMAP then lays out the groups, because neighbours
            within a group say nothing about its place; a group's points are drawn around it.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(points_NR))[:MOST_POINTS])
    shown_NR = points_NR[rows]
    if method == "umap":
        if groups:
            return Layout(rows, _around_groups(shown_NR, [groups[row] for row in rows], seed), method)
        return Layout(rows, umap_layout(shown_NR, 2, seed, min_dist=MIN_DIST), method)
    centred_NR = shown_NR - shown_NR.mean(axis=0)
    directions_RR = np.linalg.eigh(centred_NR.T @ centred_NR)[1][:, ::-1]
    return Layout(rows, np.pad(centred_NR @ directions_RR, ((0, 0), (0, 2)))[:, :2], method)


def _around_groups(points_NR: np.ndarray, groups: Sequence[str], seed: int) -> np.ndarray:
    """Lay out the groups' means, with each group's points around it in a sunflower pattern, (N, 2); "" is no group."""
    own = [name or f"point {place}" for place, name in enumerate(groups)]
    _, group_N, counts_G = np.unique(own, return_inverse=True, return_counts=True)
    layout_G2 = umap_layout(speaker_means(points_NR, own), 2, seed, min_dist=MIN_DIST)
    order_N = np.argsort(group_N, kind="stable")
    number_N = np.empty(len(own))
    number_N[order_N] = np.concatenate([np.arange(count) for count in counts_G])
    radius = SEED_SPACING * float(np.ptp(layout_G2, axis=0).max())
    angle_N = number_N * np.pi * (3 - np.sqrt(5))
    offsets_N2 = radius * np.sqrt(number_N)[:, None] * np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    return np.asarray(layout_G2[group_N] + offsets_N2)


def plot_clusters(layout: Layout, labels_N: np.ndarray, title: str) -> bytes:
    """PNG of the points, coloured and numbered by cluster.

    Args:
        labels_N: Labels of all points, drawn or not; -1 is noise, drawn grey below the others.
    """
    clusters, counts = np.unique(labels_N[labels_N >= 0], return_counts=True)
    values = [None if label < 0 else int(label) for label in labels_N[layout.rows]]
    legend = {int(cluster): f"{cluster} ({count})" for cluster, count in zip(clusters, counts, strict=True)}
    figure, axes = _figure(len(legend))
    _draw_categories(axes, layout, values, legend, f"noise ({(labels_N < 0).sum()})")
    _label_clusters(axes, layout.xy_N2, labels_N[layout.rows])
    _finish(axes, layout, title)
    _add_legend(axes, "cluster (utterances)", len(legend))
    return _png(figure, dpi=150)


def plot_column(layout: Layout, values: Sequence[str | float | None], name: str) -> bytes:
    """PNG of the points, coloured by value: numbers on a scale, texts by colour, None grey.

    Args:
        values: Values of all points, drawn or not.
    """
    shown = [values[row] for row in layout.rows]
    numbers = {value for value in shown if isinstance(value, int | float)}
    texts = sorted({str(value) for value in shown if value is not None})
    is_scale = len(numbers) > 8 and not any(isinstance(value, str) for value in shown)
    figure, axes = _figure(0 if is_scale else len(texts))
    if is_scale:
        _draw_scale(figure, axes, layout, shown, name)
    else:
        known = [None if value is None else str(value) for value in shown]
        _draw_categories(axes, layout, known, {text: text for text in texts}, "not known")
        _add_legend(axes, "", len(texts))
    _finish(axes, layout, name)
    return _png(figure, dpi=90)


def _figure(num_entries: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    columns = -(-num_entries // ROWS_OF_LEGEND)
    figure = Figure(figsize=(7.6 + 1.2 * columns, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _draw_categories(
    axes: Any, layout: Layout, values: Sequence[Any], legend: dict[Any, str], name_of_none: str
) -> None:
    size = 26 if len(layout.rows) < 500 else 12
    common = {"s": size, "alpha": 0.8, "linewidths": 0.3, "edgecolors": "white"}
    codes_N = np.array([-1 if value is None else list(legend).index(value) for value in values])
    if (codes_N < 0).any():
        axes.scatter(*layout.xy_N2[codes_N < 0].T, c=UNKNOWN_COLOUR, marker=".", zorder=1, label=name_of_none, **common)
    for code, text in enumerate(legend.values()):
        colour, marker = COLOURS[code % len(COLOURS)], MARKERS[code // len(COLOURS) % len(MARKERS)]
        axes.scatter(*layout.xy_N2[codes_N == code].T, c=colour, marker=marker, zorder=2, label=text, **common)


def _draw_scale(figure: Any, axes: Any, layout: Layout, values: Sequence[Any], name: str) -> None:
    numbers_N = np.array([np.nan if value is None else float(value) for value in values])
    is_known_N = np.isfinite(numbers_N)
    size = 26 if len(layout.rows) < 500 else 12
    axes.scatter(*layout.xy_N2[~is_known_N].T, c=UNKNOWN_COLOUR, marker=".", s=size)
    low, high = np.percentile(numbers_N[is_known_N], [1, 99])  # one odd recording would stretch the whole scale
    style = {"cmap": "viridis", "s": size, "vmin": low, "vmax": high, "linewidths": 0.3, "edgecolors": "white"}
    drawn = axes.scatter(*layout.xy_N2[is_known_N].T, c=numbers_N[is_known_N], **style)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, extend="both", label=name)
    bar.formatter.set_useOffset(False)  # "-2.602e1" above the bar, and differences to it beside
    bar.formatter.set_scientific(False)
    bar.update_ticks()


def _label_clusters(axes: Any, xy_N2: np.ndarray, labels_N: np.ndarray) -> None:
    """Draw each cluster's number at the point nearest to its median, or beside it if others are in the way."""
    from matplotlib.patheffects import withStroke

    clusters = np.unique(labels_N[labels_N >= 0])
    if not len(clusters):
        return
    middles_C2 = np.stack([_middle(xy_N2[labels_N == cluster]) for cluster in clusters])
    low_2, size_2 = xy_N2.min(axis=0), np.maximum(np.ptp(xy_N2, axis=0), 1e-9)
    places_C2 = low_2 + size_2 * apart((middles_C2 - low_2) / size_2, NUMBER_SIZE)
    style = {"fontsize": 10, "fontweight": "bold", "zorder": 3, "ha": "center", "va": "center"}
    style |= {
        "path_effects": [withStroke(linewidth=3, foreground="white")],
        "arrowprops": {"arrowstyle": "-", "lw": 0.8},
    }
    for cluster, middle_2, place_2 in zip(clusters, middles_C2, places_C2, strict=True):
        axes.annotate(str(cluster), middle_2, xytext=place_2, **style)


def _middle(xy_N2: np.ndarray) -> np.ndarray:
    """The point nearest to the median."""
    return xy_N2[np.linalg.norm(xy_N2 - np.median(xy_N2, axis=0), axis=1).argmin()]


def apart(places_C2: np.ndarray, size_2: np.ndarray) -> np.ndarray:
    """Push places apart until no two boxes with this size, centred there, overlap (or there is no room)."""
    places_C2, earlier_CC = places_C2.astype(np.float64), np.tri(len(places_C2), k=-1, dtype=bool)
    for _ in range(MOST_PUSHES):
        gaps_CC2 = places_C2[:, None] - places_C2
        over_CC2 = 1 - np.abs(gaps_CC2) / size_2
        is_over_CC = (over_CC2 > 1e-6).all(axis=2) & ~np.eye(len(places_C2), dtype=bool)
        if not is_over_CC.any():
            break
        signs_CC2 = np.where(gaps_CC2 != 0, np.sign(gaps_CC2), np.where(earlier_CC, 1, -1)[..., None])
        is_way_CC2 = over_CC2 == over_CC2.min(axis=2, keepdims=True)  # the shorter way out
        pushes_CC2 = signs_CC2 * (over_CC2 + 0.02) / 2 * is_way_CC2 * is_over_CC[..., None]
        places_C2 = np.clip(places_C2 + pushes_CC2.sum(axis=1) * size_2, 0, 1)
    return places_C2


def _add_legend(axes: Any, title: str, num_entries: int) -> None:
    columns = max(1, -(-num_entries // ROWS_OF_LEGEND))
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "ncols": columns}
    legend = axes.legend(title=title, fontsize=9, frameon=False, alignment="left", **beside)
    for handle in legend.legend_handles:
        handle.set_sizes([36])
        handle.set_alpha(1)


def _finish(axes: Any, layout: Layout, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(f"{layout.method.upper()} 1")
    axes.set_ylabel(f"{layout.method.upper()} 2")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.04)


def _png(figure: Any, dpi: int) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
