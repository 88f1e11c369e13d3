"""Fit a clusterer on training embeddings."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.algorithms import partition_points
from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.clustering.features import FittedSpace, fit_features
from moe_lightning.clustering.memberships import Calibration, Closeness, calibrate_temperature, centroids_of, closeness
from moe_lightning.clustering.num_experts import Choice, choose_num_experts
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.speakers import speaker_means, speaker_weights
from moe_lightning.settings.clustering import ClusteringSettings

MOST_CALIBRATED = 20_000
"""Training utterances for calibrating the temperature."""
SWALLOWED, NOISY, ELSEWHERE = 0.8, 0.3, 0.05
BY_DISTANCE = ("kmeans", "balanced")
"""Algorithms with soft labels by distance to the centroids, as their clusters; all others use the cosine."""
_BECAUSE: dict[Closeness, str] = {
    "cosine": "soft labels go by the cosine to the centroids, and some centroids lie near the common mean",
    "distance": "soft labels go by the nearest centroid, and the clusters were made equally large",
}
CERTAIN = ("label", "random")
"""Algorithms with given labels: there is no uncertainty, so nothing is calibrated."""


class FittedClustering(NamedTuple):
    """A clusterer, and its training data."""

    clusterer: Clusterer
    points_NR: np.ndarray
    """Training embeddings in the clustered space."""
    partition: Partition
    notes: tuple[str, ...]
    """Notes for the user, one sentence each."""
    choice: Choice | None = None
    """Evidence for the number of experts, if it was chosen automatically."""


def fit_clusterer(
    embeddings_ND: np.ndarray,
    settings: ClusteringSettings,
    field_values: Sequence[str | None] | None = None,
    nuisance_NJ: np.ndarray | None = None,
    speakers: Sequence[str] | None = None,
    gradients_NG: np.ndarray | None = None,
) -> FittedClustering:
    """Cluster training embeddings, one row per utterance.

    Args:
        field_values: For ``label``: manifest value per utterance, None if missing.
        nuisance_NJ: Variables whose linear trace is removed from the embeddings, one per column.
        speakers: Speaker per utterance. Unless ``pool_speakers`` is 0, the embeddings are already pooled by speaker.
            K-means then weighs them by `speaker_weights`, and an automatic number of experts is chosen on the speaker
            means.
        gradients_NG: For the reduction ``gradients``: loss gradient per utterance.

    Raises:
        InputError: Fewer (different) utterances than experts, values that are not finite, or too few clusters with
            ``no_reduce_experts``.
    """
    features = fit_features(
        embeddings_ND,
        standardise=settings.standardise,
        reduce=settings.reduce,
        reduce_dim=settings.reduce_dim,
        unit_length=settings.algorithm == "hdbscan" and settings.hdbscan.metric == "cosine",
        nuisance_NJ=nuisance_NJ,
        gradients_NG=gradients_NG,
        speakers=speakers,
        seed=settings.seed,
    )
    pooled = None if settings.pool_speakers == 0 else speakers
    counted_NR = speaker_means(features.points_NR, pooled) if pooled else features.points_NR
    choice = choose_num_experts(counted_NR, settings.seed) if settings.num_experts is None else None
    weights_N = speaker_weights(pooled) if pooled else None
    partition = partition_points(features.points_NR, settings, choice, field_values, weights_N).renumbered()
    return _assemble(features, partition, choice, settings)


def _assemble(
    features: FittedSpace, partition: Partition, choice: Choice | None, settings: ClusteringSettings
) -> FittedClustering:
    num_experts, points_NR = partition.num_experts, features.points_NR
    centroids_ER = partition.centres_ER
    if centroids_ER is None:
        centroids_ER = centroids_of(points_NR, partition.labels_N, num_experts)
    by: Closeness = "distance" if partition.algorithm in BY_DISTANCE else "cosine"
    closeness_NE = closeness(points_NR, centroids_ER, by)
    temperatures, temperature_notes = _temperatures(closeness_NE, partition, settings)
    chosen = (choice.in_words(),) if choice else ()
    notes = (
        *features.space.notes,
        *chosen,
        *partition.notes,
        *_doubts(partition, closeness_NE, by),
        *temperature_notes,
    )
    clusterer = Clusterer(
        features.space,
        centroids_ER,
        partition.landmarks_of(points_NR),
        noise=settings.noise,
        soft_labels_by=by,
        info=_info(settings, partition, choice, notes),
        **temperatures,
    )
    return FittedClustering(clusterer, points_NR, partition, notes, choice)


def _doubts(partition: Partition, closeness_NE: np.ndarray, by: Closeness) -> tuple[str, ...]:
    """Notes on weak clusterings: one cluster, or noise, takes nearly everything; or soft and hard labels disagree.

    An expert for nearly everything is the dense model again. A cosine separates poorly a cluster near the common
    mean.
    """
    share, noise = (float((partition.labels_N == label).mean()) for label in (0, -1))  # cluster 0 is the largest
    notes = []
    elsewhere = float((closeness_NE.argmax(axis=1) != partition.labels_N).mean())
    if partition.memberships_NE is None and elsewhere >= ELSEWHERE:
        notes.append(
            f"{elsewhere:.0%} of the training utterances have the highest soft label in another cluster than their own:"
            f" {_BECAUSE[by]}"
        )
    if partition.num_experts > 1 and share >= SWALLOWED:
        notes.append(f"cluster 0 holds {share:.0%} of the training utterances; try another algorithm or --residualise")
    if noise >= NOISY:
        notes.append(f"{noise:.0%} of the training utterances are noise; --algorithm spectral gives each a cluster")
    return tuple(notes)


def _temperatures(
    closeness_NE: np.ndarray, partition: Partition, settings: ClusteringSettings
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The clusterer's two temperatures, and notes."""
    rows = np.random.default_rng(settings.seed).permutation(len(closeness_NE))[:MOST_CALIBRATED]
    by_closeness = calibrate_temperature(closeness_NE[rows], settings.target_entropy)
    chosen = by_closeness
    if partition.algorithm in CERTAIN:
        chosen = Calibration(1.0, settings.target_entropy)
    elif partition.memberships_NE is not None:
        some_NE = partition.memberships_NE[rows]
        some_NE = some_NE[some_NE.sum(axis=1) > 0]
        chosen = calibrate_temperature(np.log(np.maximum(some_NE, 1e-12)), settings.target_entropy)
    temperatures = {
        "temperature": settings.temperature or chosen.temperature,
        "noise_temperature": by_closeness.temperature,
    }
    missed = abs(chosen.entropy - settings.target_entropy) > 0.01 and partition.num_experts > 1
    if settings.temperature is not None or not missed:
        return temperatures, ()
    return temperatures, (
        f"no temperature meets --target-entropy {settings.target_entropy}: {chosen.entropy:.2f} is nearest",
    )


def _info(
    settings: ClusteringSettings, partition: Partition, choice: Choice | None, notes: tuple[str, ...]
) -> dict[str, Any]:
    made_with = {name: value for name, value in asdict(settings).items() if not name.endswith("_dir")}
    return {
        "algorithm": settings.algorithm,
        "fitted_with": partition.algorithm,
        "fell_back": partition.algorithm != settings.algorithm,
        "cluster_sizes": [int((partition.labels_N == expert).sum()) for expert in range(partition.num_experts)],
        "num_noise": int((partition.labels_N == -1).sum()),
        "candidates": [candidate._asdict() for candidate in choice.candidates] if choice else [],
        "settings": made_with,
        "notes": list(notes),
    }
