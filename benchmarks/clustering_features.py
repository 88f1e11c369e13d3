"""Agreement of clusters with the populations of a run, by features, reduction and algorithm: a table.

    moe-lightning embed --run-dir RUN --whisper-model nano --pooling mean+std --embedding-layer 2,3,last --gradients
    python benchmarks/clustering_features.py RUN --field accent [--num-experts 8] [--only-reductions]

The choice may look at stability alone; adjusted mutual information with the field is there to judge the
choice. Chance is told by speakers: 0 is what speakers in clusters at random reach.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.association import information
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.judgement import stability
from moe_lightning.clustering.speakers import choose_share, speakers_of, towards_speakers
from moe_lightning.clustering.stage import embeddings_of
from moe_lightning.clustering.utterances import field_values, nuisance_columns, read_utterances
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.clustering import ClusteringSettings

HEADS = ("statistics", "layers", "towards speaker", "standardised", "reduction", "removed", "algorithm")
FIGURES = ("stability", "of shuffled", "{field}, train", "{field}, dev", "{field}, dev by a gate", "duration")


class Known(NamedTuple):
    """Values to compare the clusters with, one per utterance of the store."""

    values_N: np.ndarray
    duration_N: np.ndarray
    """In five bins."""
    nuisance_NJ: np.ndarray
    speakers_N: np.ndarray
    is_train_N: np.ndarray
    is_dev_N: np.ndarray


def main() -> None:
    """Print a Markdown table, one line a combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--field", required=True)
    parser.add_argument("--num-experts", type=int, default=8)
    parser.add_argument("--only-reductions", action="store_true", help="compare PCA with gradients and no more")
    args = parser.parse_args()
    run = RunDir(args.run_dir)
    store = EmbeddingStore.load(run.embedding_dirs()[0])
    known = what_is_known(store, run, args.field)
    heads = (*HEADS, *(figure.format(field=args.field) for figure in FIGURES))
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    layers = tuple(store.info.embedding_layer.split(",")) if store.info else ("last",)
    folder = run.embedding_dirs()[0] / GRADIENTS_DIR
    gradients = EmbeddingStore.load(folder) if folder.is_dir() else None
    for settings in combinations(args.num_experts, layers, args.only_reductions):
        if settings.reduce == "gradients" and gradients is None:
            continue
        words, figures = measure(store, known, settings, gradients)
        print(f"| {' | '.join((*words, *(f'{figure:.2f}' for figure in figures)))} |", flush=True)


def what_is_known(store: EmbeddingStore, run: RunDir, field: str) -> Known:
    utterances = read_utterances(run.stage_dir("corpus"), store.ids)
    seconds_N = np.array([utterance.duration for utterance in utterances])
    return Known(
        np.array(field_values(utterances, field)).astype(str),
        np.searchsorted(np.quantile(seconds_N, [0.2, 0.4, 0.6, 0.8]), seconds_N),
        nuisance_columns(utterances, ("duration", "pitch")),
        np.array(speakers_of(store)),
        store.splits_N == "train",
        store.splits_N == "dev",
    )


def measure(
    store: EmbeddingStore, known: Known, settings: ClusteringSettings, gradients: EmbeddingStore | None
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """A row of the table: names of the settings, and their figures."""
    train_N = known.is_train_N
    share = choose_share(settings, known.speakers_N[train_N].tolist())
    plain_ND = embeddings_of(store, {**asdict(settings), "pool_speakers": 0.0})
    moved_ND = towards_speakers(plain_ND, known.speakers_N.tolist(), share)
    removed_NJ = known.nuisance_NJ[train_N] if settings.residualise else None
    ids = [entry.id for entry in store.entries if entry.split == "train"]
    gradients_NG = gradients.of(ids) if gradients and settings.reduce == "gradients" else None
    settings, speakers = replace(settings, pool_speakers=share), known.speakers_N[train_N].tolist()
    fitted = fit_clusterer(moved_ND[train_N], settings, None, removed_NJ, speakers, gradients_NG)
    labels_N = fitted.clusterer.predict(moved_ND).labels_N
    found = stability(fitted.points_NR, fitted.clusterer.num_experts, settings, speakers if share else None)
    reduction = "none" if settings.reduce == "none" else f"{settings.reduce} {settings.reduce_dim}"
    yes = "yes" if settings.standardise else "no"
    removed = ", ".join(settings.residualise) or "-"
    words = (settings.pool_stats or "all", ", ".join(settings.layers), f"{share:g}", yes, reduction, removed)
    figures = (
        found.resamples or 0.0,
        found.shuffled or 0.0,
        about(known.values_N, labels_N, known, train_N),
        about(known.values_N, labels_N, known, known.is_dev_N),
        about(known.values_N, by_a_gate(plain_ND, labels_N, train_N), known, known.is_dev_N),
        about(known.duration_N, labels_N, known, train_N),
    )
    return (*words, settings.algorithm), figures


def combinations(num_experts: int, layers: tuple[str, ...], only_reductions: bool) -> Iterator[ClusteringSettings]:
    """One thing changed at a time, from mean+std of the last layer."""
    changes: list[dict[str, Any]] = [
        {},
        {"pool_speakers": 0.0},
        {"pool_speakers": 0.5},
        {"pool_speakers": 1.0},
        {"pool_stats": "mean"},
        {"pool_stats": "mean", "pool_speakers": 0.0},
        *({"layers": (layer,)} for layer in layers[:-1]),
        *({"layers": (layer, layers[-1])} for layer in layers[:-1]),
        *({"layers": (layer, layers[-1]), "pool_speakers": 0.0} for layer in layers[:-1]),
        *([{"layers": layers}] if len(layers) > 2 else []),
        {"standardise": False},
        {"reduce": "none"},
        {"reduce_dim": 10},
        {"reduce_dim": 20},
        {"residualise": ("duration", "pitch")},
        {"residualise": ("duration", "pitch"), "pool_speakers": 0.0},
        *({"algorithm": "hdbscan", "pool_speakers": share} for share in (None, 0.0)),
        {"algorithm": "balanced"},
        {"algorithm": "random"},
    ]
    by_pca, by_gradients = (
        [{"reduce": reduce, "pool_speakers": share} for share in (0.0, 0.8, 1.0)] for reduce in ("pca", "gradients")
    )
    changes = (by_pca if only_reductions else changes) + by_gradients
    for change in changes:
        algorithms = (change["algorithm"],) if "algorithm" in change else ("spectral", "kmeans")
        for algorithm in algorithms:
            common = {"num_experts": num_experts, "pool_stats": "mean+std", "layers": layers[-1:]}
            yield ClusteringSettings(Path(), Path(), **{**common, **change, "algorithm": algorithm})


def by_a_gate(embeddings_ND: np.ndarray, labels_N: np.ndarray, is_train_N: np.ndarray) -> np.ndarray:
    """Clusters that a linear gate, which knows no speakers, learns to tell of single utterances."""
    from sklearn.linear_model import LogisticRegression

    scaled_ND = embeddings_ND - embeddings_ND[is_train_N].mean(axis=0)
    scaled_ND /= embeddings_ND[is_train_N].std(axis=0) + 1e-9
    return LogisticRegression(C=0.1, max_iter=300).fit(scaled_ND[is_train_N], labels_N[is_train_N]).predict(scaled_ND)


def about(values_N: np.ndarray, labels_N: np.ndarray, known: Known, is_used_N: np.ndarray) -> float:
    """Information of the clusters on a variable, over some utterances; chance by speakers."""
    codes_N = np.unique(values_N[is_used_N], return_inverse=True)[1]
    return information(codes_N, labels_N[is_used_N], known.speakers_N[is_used_N])


if __name__ == "__main__":
    main()
