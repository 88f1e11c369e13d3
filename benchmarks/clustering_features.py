"""Which features, reduction and algorithm find the populations of a run: a table for people.

    python benchmarks/clustering_features.py RUN --field accent [--num-experts 8]

The choice may look at stability alone; adjusted mutual information with the field, on train and dev, is
there to judge the choice. The run needs embeddings made with ``--pooling mean+std``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moe_lightning.clustering.features import select_stats
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.judgement import stability
from moe_lightning.clustering.settings import ClusteringSettings
from moe_lightning.clustering.utterances import field_values, nuisance_columns, read_utterances
from moe_lightning.embedding_store import EmbeddingStore
from moe_lightning.run_dir import RunDir


def main() -> None:
    """Print a Markdown table, one line a combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--field", required=True)
    parser.add_argument("--num-experts", type=int, default=8)
    args = parser.parse_args()
    run = RunDir(args.run_dir)
    store = EmbeddingStore.load(run.embedding_dirs()[0])
    utterances = read_utterances(run.stage_dir("corpus"), store.ids)
    values_N = np.array(field_values(utterances, args.field))
    seconds_N = np.array([utterance.duration for utterance in utterances])
    duration_N = np.searchsorted(np.quantile(seconds_N, [0.2, 0.4, 0.6, 0.8]), seconds_N)
    rows = np.flatnonzero(store.splits_N == "train")
    nuisance_NJ = nuisance_columns([utterances[row] for row in rows], ("duration", "pitch"))
    print(
        f"| statistics | standardised | reduction | removed | algorithm | stability | of shuffled | {args.field},"
        f" train | {args.field}, dev | duration |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for stats, settings in combinations(args.num_experts):
        embeddings_ND = select_stats(store.embeddings_ND, "mean+std", stats)
        removed = nuisance_NJ if settings.residualise else None
        fitted = fit_clusterer(embeddings_ND[rows], settings, nuisance_NJ=removed)
        labels_N = fitted.clusterer.predict(embeddings_ND).labels_N
        found = stability(fitted.points_NR, args.num_experts, settings)
        scores = (
            *(information(values_N, labels_N, store.splits_N == split) for split in ("train", "dev")),
            information(duration_N, labels_N, store.splits_N == "train"),
        )
        reduction = f"pca {settings.reduce_dim}" if settings.reduce == "pca" else "none"
        words = (stats, "yes" if settings.standardise else "no", reduction, ", ".join(settings.residualise) or "-")
        figures = (found.resamples or 0.0, found.shuffled or 0.0, *scores)
        print(f"| {' | '.join((*words, settings.algorithm, *(f'{figure:.2f}' for figure in figures)))} |", flush=True)


def combinations(num_experts: int) -> Iterator[tuple[str, ClusteringSettings]]:
    """One thing changed at a time, from the defaults."""
    changes: list[tuple[str, dict]] = [
        ("mean", {}),
        ("mean+std", {}),
        ("mean", {"standardise": False}),
        ("mean+std", {"standardise": False}),
        ("mean", {"reduce": "none"}),
        ("mean", {"reduce_dim": 10}),
        ("mean", {"reduce_dim": 20}),
        ("mean+std", {"reduce_dim": 20}),
        ("mean", {"residualise": ("duration", "pitch")}),
        ("mean+std", {"residualise": ("duration", "pitch")}),
        ("mean", {"algorithm": "balanced"}),
        ("mean", {"algorithm": "random"}),
    ]
    for stats, change in changes:
        algorithms = (change["algorithm"],) if "algorithm" in change else ("spectral", "kmeans")
        for algorithm in algorithms:
            changed = {"num_experts": num_experts, **change, "algorithm": algorithm}
            yield stats, ClusteringSettings(Path(), Path(), **changed)


def information(values_N: np.ndarray, labels_N: np.ndarray, is_used_N: np.ndarray) -> float:
    """Adjusted mutual information of the clusters with a variable, over some utterances."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(values_N[is_used_N], labels_N[is_used_N]))


if __name__ == "__main__":
    main()
