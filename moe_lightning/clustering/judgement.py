"""Quality of the clusters, measured without reference labels: stability and separation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from moe_lightning.clustering.algorithms import partition_points
from moe_lightning.clustering.num_experts import Choice
from moe_lightning.clustering.speakers import speaker_weights
from moe_lightning.errors import InputError
from moe_lightning.settings.clustering import ClusteringSettings

MOST_POINTS = 1_200
NUM_SAMPLES, NUM_SEEDS, NUM_SHUFFLED = 4, 2, 2
SHARE = 0.8
SAME = 0.6
CLEARLY_MORE = 0.1


class Stability(NamedTuple):
    """Mean adjusted Rand index between a clustering and its repetitions; None if it cannot be repeated."""

    resamples: float | None
    """On four samples of 80 % of the points; of the speakers after speaker-level pooling."""
    seeds: float | None
    """With two other seeds."""
    shuffled: float | None
    """On two samples, after shuffling each dimension by itself: the baseline without clusters."""

    def in_words(self) -> str:
        """The answer to "are the clusters real?", and why; empty if nothing could be repeated."""
        if self.resamples is None:
            return ""
        said = f"(stability {self.resamples:.2f})"
        if self.resamples <= SAME:
            return f"Are they real? No: a sample of the utterances gives other clusters {said}."
        again = f"a sample of the utterances gives the same clusters {said}"
        if self.shuffled is None:
            return f"Are they real? Not established: {again}, and nothing is known of data without structure."
        other = f"data without any structure ({self.shuffled:.2f})"
        if self.resamples < self.shuffled + CLEARLY_MORE:
            return f"Are they real? Not established: {again}, but so does {other}."
        return f"Are they real? Yes: {again}, and {other} does not."


class Separation(NamedTuple):
    """Distance between the clusters; None unless there are at least two, with fewer clusters than points."""

    silhouette: float | None
    """-1 to 1, higher is better."""
    davies_bouldin: float | None
    """From 0, lower is better."""


def separation(points_NR: np.ndarray, labels_N: np.ndarray) -> Separation:
    """Separation of the points without noise; above 1,200 points, of a random 1,200."""
    from sklearn.metrics import davies_bouldin_score, silhouette_score

    rows = np.random.default_rng(0).permutation(np.flatnonzero(labels_N >= 0))[:MOST_POINTS]
    num_clusters = len(np.unique(labels_N[rows]))
    if not 1 < num_clusters < len(rows):
        return Separation(None, None)
    return Separation(
        float(silhouette_score(points_NR[rows], labels_N[rows])),
        float(davies_bouldin_score(points_NR[rows], labels_N[rows])),
    )


def stability(
    points_NR: np.ndarray, num_experts: int, settings: ClusteringSettings, speakers: Sequence[str] | None = None
) -> Stability:
    """Cluster samples of the points again and compare; given labels are not judged.

    Args:
        speakers: Speaker per point, after speaker-level pooling. Samples then consist of speakers, and whole speakers
            are shuffled: finding a speaker again is no evidence for populations.
    """
    if settings.algorithm in ("label", "random"):
        return Stability(None, None, None)
    random = np.random.default_rng(settings.seed)
    rows = np.sort(random.permutation(len(points_NR))[:MOST_POINTS])
    points_NR = points_NR[rows]
    groups_N = rows if speakers is None else np.unique(np.array(speakers)[rows], return_inverse=True)[1]
    shuffled_NR = _shuffled(points_NR, groups_N, random)
    return Stability(
        _over_samples(points_NR, groups_N, NUM_SAMPLES, num_experts, settings, random),
        _over_seeds(points_NR, groups_N, num_experts, settings),
        _over_samples(shuffled_NR, groups_N, NUM_SHUFFLED, num_experts, settings, random),
    )


def _shuffled(points_NR: np.ndarray, groups_N: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shuffle each dimension by itself among the groups; deviations from a group's mean stay."""
    _, group_N, counts = np.unique(groups_N, return_inverse=True, return_counts=True)
    means_GR = np.zeros((len(counts), points_NR.shape[1]))
    np.add.at(means_GR, group_N, points_NR)
    means_GR /= counts[:, None]
    return points_NR + (random.permuted(means_GR, axis=0) - means_GR)[group_N]


def _over_samples(
    points_NR: np.ndarray,
    groups_N: np.ndarray,
    repeats: int,
    num_experts: int,
    settings: ClusteringSettings,
    random: np.random.Generator,
) -> float | None:
    whole_N = _labels(points_NR, groups_N, num_experts, settings)
    groups = np.unique(groups_N)
    kept = [random.permutation(groups)[: round(SHARE * len(groups))] for _ in range(repeats)]
    samples = [np.flatnonzero(np.isin(groups_N, some)) for some in kept]
    return _mean_agreement(
        [(whole_N, _labels(points_NR[rows], groups_N[rows], num_experts, settings), rows) for rows in samples]
    )


def _over_seeds(
    points_NR: np.ndarray, groups_N: np.ndarray, num_experts: int, settings: ClusteringSettings
) -> float | None:
    whole_N, rows = _labels(points_NR, groups_N, num_experts, settings), np.arange(len(points_NR))
    others = [replace(settings, seed=settings.seed + number) for number in range(1, NUM_SEEDS + 1)]
    return _mean_agreement([(whole_N, _labels(points_NR, groups_N, num_experts, other), rows) for other in others])


def _labels(
    points_NR: np.ndarray, groups_N: np.ndarray, num_experts: int, settings: ClusteringSettings
) -> np.ndarray | None:
    """None if the points do not make this many clusters."""
    try:
        weights_N = speaker_weights(groups_N.astype(str).tolist())
        return partition_points(points_NR, settings, Choice(num_experts, ()), weights_N=weights_N).labels_N
    except InputError:
        return None


def _mean_agreement(triples: list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray]]) -> float | None:
    from sklearn.metrics import adjusted_rand_score

    scores = [
        adjusted_rand_score(whole[rows], part)
        for whole, part, rows in triples
        if whole is not None and part is not None
    ]
    return float(np.mean(scores)) if scores else None
