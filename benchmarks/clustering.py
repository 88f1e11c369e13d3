"""Time of clustering as the corpus grows, beside scikit-learn, and agreement of the clusters.

    python benchmarks/clustering.py [--quick] [--json FILE] [--plot FILE.png]

One process, one data set after the other, ours and scikit-learn's in turns. The data are mixtures of
eight elongated Gaussians in 50 dimensions and, with ``--embedding-dir``, the embeddings of a run.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.hdbscan import SAMPLE_LIMIT, hdbscan_partition
from moe_lightning.clustering.spectral import spectral_partition
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.settings.clustering import ClusteringSettings, HdbscanOptions

NUM_EXPERTS, DIM, SEED = 8, 50, 42
SIZES, QUICK_SIZES = (2_000, 5_000, 20_000), (2_000, 5_000)
DISTANCES = {"near": 2.5, "apart": 3.0}
"""Of the groups that HDBSCAN is to find; nearer ones it takes for noise, exact or not."""
HDBSCAN = HdbscanOptions(min_cluster_size=20, max_retries=0)


def main() -> None:
    """Measure, print a line each, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under 50 s; the large figures are null")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="growth with N as a PNG")
    parser.add_argument("--embedding-dir", type=Path, metavar="DIR", help="compare on the embeddings of a run too")
    args = parser.parse_args()
    figures: dict[str, Any] = {"growth": []}
    spectral_beside_scikit_learn({"growth": []}, (500,))  # imports and first calls are not what is measured
    spectral_beside_scikit_learn(figures, QUICK_SIZES if args.quick else SIZES)
    if args.embedding_dir:
        spectral_of_a_store(figures, args.embedding_dir)
    for size in (20_000, 100_000) if args.quick else (20_000, 100_000, 1_000_000):
        spectral_of_many(figures, size)
    for size in (2_000,) if args.quick else (2_000, 5_000, 10_000):
        hdbscan_beside_its_sample(figures, size)
    if not args.quick:
        hdbscan_of_many(figures, 100_000)
    if args.json:
        args.json.write_text(json.dumps(in_full(figures), indent=1) + "\n")
    if args.plot:
        plot(figures["growth"], args.plot)


def elongated_gaussians(num_points: int, distance: float, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 50) float32 and their groups: axes from 4 to 0.5 in deviation, turned at random."""
    random = np.random.default_rng(seed)
    groups_N = random.integers(NUM_EXPERTS, size=num_points)
    points_ND = np.empty((num_points, DIM), dtype=np.float32)
    axes_D = np.geomspace(4, 0.5, DIM)
    for group in range(NUM_EXPERTS):
        is_own_N = groups_N == group
        turned_DD = np.linalg.qr(random.normal(size=(DIM, DIM)))[0] * axes_D
        own_ND = random.normal(size=(int(is_own_N.sum()), DIM)) @ turned_DD.T
        points_ND[is_own_N] = own_ND + distance * random.normal(size=DIM)
    return points_ND, groups_N


def spectral_beside_scikit_learn(figures: dict[str, Any], sizes: tuple[int, ...]) -> None:
    """The command's own choice and landmarks against scikit-learn, at sizes where all run."""
    from sklearn.metrics import adjusted_rand_score

    for size in sizes:
        points_ND, groups_N = elongated_gaussians(size, distance=1.0)
        seconds, agreement, reference_seconds, reference_N = three_ways(f"spectral {size:>9,}", points_ND)
        note(figures, "spectral", size, seconds)
        note(figures, "scikit-learn spectral", size, reference_seconds)
        print(
            f"{'':18}  scikit-learn with the true groups {adjusted_rand_score(groups_N, reference_N):.3f}", flush=True
        )
        if size == 20_000:
            figures |= {"spectral_speedup_20k": reference_seconds / seconds, "spectral_ari_20k": agreement}


def spectral_of_a_store(figures: dict[str, Any], folder: Path) -> None:
    """The same on pooled embeddings, standardised and reduced as the command does it."""
    from moe_lightning.clustering.features import fit_features

    points_NR = fit_features(EmbeddingStore.load(folder).embeddings_ND).points_NR
    seconds, agreement, _, _ = three_ways(f"embeddings {len(points_NR):>7,}", points_NR)
    figures["store"] = {"utterances": len(points_NR), "agreement": agreement, "seconds": seconds}


def three_ways(name: str, points_NR: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Our seconds, our agreement with scikit-learn, its seconds and its labels; landmarks are printed beside."""
    from sklearn.metrics import adjusted_rand_score

    seconds, ours_N = timed(run_spectral, points_NR)
    few_seconds, few_N = timed(run_landmarks, points_NR)
    reference_seconds, reference_N = timed(scikit_learn, points_NR)
    agreement, few = (adjusted_rand_score(reference_N, labels_N) for labels_N in (ours_N, few_N))
    print(
        f"{name}: {seconds:7.2f} s, agreement {agreement:.3f}; landmarks {few_seconds:.2f} s, {few:.3f};"
        f" scikit-learn {reference_seconds:.2f} s ({reference_seconds / seconds:.1f}x)",
        flush=True,
    )
    return seconds, agreement, reference_seconds, reference_N


def spectral_of_many(figures: dict[str, Any], size: int) -> None:
    """The whole fit, standardisation and PCA included, and all soft labels."""
    from sklearn.metrics import adjusted_rand_score

    points_ND, groups_N = elongated_gaussians(size, distance=1.0)
    seconds, labels_N = timed(fit_and_predict, points_ND)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    note(figures, "spectral, fit and soft labels", size, seconds)
    print(
        f"spectral {size:>9,}: {seconds:7.2f} s with soft labels, peak {peak_gb:.2f} GB,"
        f" with the true groups {adjusted_rand_score(groups_N, labels_N):.3f}",
        flush=True,
    )
    if size == 1_000_000:
        figures |= {"spectral_1m_seconds": seconds, "spectral_1m_peak_gb": peak_gb}


def hdbscan_beside_its_sample(figures: dict[str, Any], size: int) -> None:
    """HDBSCAN of everything against HDBSCAN of a tenth that labels the rest, as 100,000 points get it."""
    from sklearn.metrics import adjusted_rand_score

    agreement = {}
    for name, distance in DISTANCES.items():
        points_ND = elongated_gaussians(size, distance)[0]
        seconds, exact_N = timed(run_hdbscan, points_ND, size)
        few_seconds, few_N = timed(run_hdbscan, points_ND, size // 10)
        agreement[name] = adjusted_rand_score(exact_N, few_N)
        print(
            f"HDBSCAN  {size:>9,}: {seconds:7.2f} s, of a tenth {few_seconds:.2f} s, groups {name}:"
            f" agreement {agreement[name]:.3f}, noise {noise(exact_N):.0%} and {noise(few_N):.0%}",
            flush=True,
        )
    note(figures, "HDBSCAN, exact", size, seconds)
    note(figures, "HDBSCAN of a tenth", size, few_seconds)
    if size == 10_000:
        figures |= {"hdbscan_10k_ari": agreement["apart"], "hdbscan_10k_ari_of_near_groups": agreement["near"]}


def hdbscan_of_many(figures: dict[str, Any], size: int) -> None:
    """Fit of the sample, labels and memberships of all."""
    points_ND = elongated_gaussians(size, DISTANCES["apart"])[0]
    seconds, labels_N = timed(run_hdbscan, points_ND, SAMPLE_LIMIT)
    note(figures, "HDBSCAN of a sample of 10,000", size, seconds)
    print(f"HDBSCAN  {size:>9,}: {seconds:7.2f} s with soft labels, {noise(labels_N):.0%} noise", flush=True)
    figures["hdbscan_100k_seconds"] = seconds


def fit_and_predict(points_ND: np.ndarray) -> np.ndarray:
    settings = ClusteringSettings(Path(), Path(), algorithm="spectral", num_experts=NUM_EXPERTS)
    return fit_clusterer(points_ND, settings).clusterer.predict(points_ND).labels_N


def run_spectral(points_ND: np.ndarray) -> np.ndarray:
    """As the command does it: exact at these sizes."""
    return spectral_partition(points_ND, NUM_EXPERTS, SEED).labels_N


def run_landmarks(points_ND: np.ndarray) -> np.ndarray:
    """By landmarks, however few the points."""
    return spectral_partition(points_ND, NUM_EXPERTS, SEED, 0).labels_N


def run_hdbscan(points_ND: np.ndarray, sample_limit: int) -> np.ndarray:
    return hdbscan_partition(points_ND, NUM_EXPERTS, SEED, HDBSCAN, sample_limit=sample_limit).labels_N


def scikit_learn(points_ND: np.ndarray) -> np.ndarray:
    from sklearn.cluster import SpectralClustering

    return SpectralClustering(NUM_EXPERTS, affinity="nearest_neighbors", random_state=SEED).fit_predict(points_ND)


def timed(work: Callable[..., np.ndarray], *arguments: Any) -> tuple[float, np.ndarray]:
    """Seconds, and the labels."""
    start = time.perf_counter()
    labels_N = work(*arguments)
    return time.perf_counter() - start, labels_N


def noise(labels_N: np.ndarray) -> float:
    return float((labels_N == -1).mean())


def note(figures: dict[str, Any], name: str, size: int, seconds: float) -> None:
    figures["growth"].append({"name": name, "size": size, "seconds": round(seconds, 3)})


def in_full(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, those that were not measured as null."""
    names = (
        *("spectral_speedup_20k", "spectral_ari_20k", "spectral_1m_seconds", "spectral_1m_peak_gb"),
        *("hdbscan_100k_seconds", "hdbscan_10k_ari"),
    )
    return {**dict.fromkeys(names), **figures}


def plot(growth: list[dict[str, Any]], path: Path) -> None:
    """Seconds against N, both on a logarithmic scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from moe_lightning.clustering.plot import COLOURS, MARKERS

    figure = Figure(figsize=(7.5, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(one["name"] for one in growth)):
        points = sorted((one["size"], one["seconds"]) for one in growth if one["name"] == name)
        axes.plot(*zip(*points, strict=True), color=COLOURS[number], marker=MARKERS[number], label=name)
    axes.set(xscale="log", yscale="log", xlabel="utterances", ylabel="seconds", title="Clustering 50 dimensions")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
