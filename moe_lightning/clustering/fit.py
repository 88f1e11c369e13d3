"""Fit a clusterer on training embeddings."""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.clusterer import Clusterer
from moe_lightning.clustering.features import FittedSpace, fit_features
from moe_lightning.clustering.hdbscan_search import hdbscan_partition
from moe_lightning.clustering.memberships import calibrate_temperature, centroids_of, cosines
from moe_lightning.clustering.neighbours import Neighbours
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.settings import ClusteringSettings
from moe_lightning.clustering.spectral import spectral_partition
from moe_lightning.errors import InputError


class FittedClustering(NamedTuple):
    """A clusterer, and what it was fitted on."""

    clusterer: Clusterer
    points_NR: np.ndarray
    """Training embeddings in the clustered space."""
    partition: Partition
    notes: tuple[str, ...]
    """What the user should be told, a sentence each."""


def fit_clusterer(embeddings_ND: np.ndarray, settings: ClusteringSettings) -> FittedClustering:
    """Cluster training embeddings, one row an utterance.

    Raises:
        InputError: Fewer (different) utterances than experts, values that are not finite, or too few
            clusters where they may not shrink.
    """
    is_hdbscan = settings.algorithm == "hdbscan"
    features = fit_features(
        embeddings_ND,
        standardise=settings.standardise,
        reduce=settings.reduce,
        reduce_dim=settings.reduce_dim,
        unit_length=is_hdbscan and settings.hdbscan.metric == "cosine",
        seed=settings.seed,
    )
    points_NR = features.points_NR
    _check_enough(points_NR, settings)
    if is_hdbscan:
        partition = hdbscan_partition(points_NR, settings.num_experts, settings.seed, settings.hdbscan)
    else:
        partition = spectral_partition(points_NR, settings.num_experts, settings.seed)
    return _assemble(features, partition.renumbered(), settings)


def _check_enough(points_NR: np.ndarray, settings: ClusteringSettings) -> None:
    shrinks = settings.algorithm == "hdbscan" and not settings.hdbscan.no_reduce_experts
    wanted, flag = (settings.hdbscan.min_experts, "min") if shrinks else (settings.num_experts, "num")
    num_different = len(np.unique(points_NR.round(9), axis=0))
    if num_different < wanted:
        raise InputError(
            f"the train split has {len(points_NR)} utterances with {num_different} different embeddings,"
            f" --{flag}-experts {wanted} needs as many; lower it or embed more utterances"
        )


def _assemble(features: FittedSpace, partition: Partition, settings: ClusteringSettings) -> FittedClustering:
    num_experts, points_NR = partition.num_experts, features.points_NR
    centroids_ER = centroids_of(points_NR, partition.labels_N, num_experts)
    values_NV = np.eye(num_experts + 1)[partition.labels_N]  # -1 takes the last row: noise
    if partition.memberships_NE is not None:
        values_NV = np.concatenate([values_NV, partition.memberships_NE], axis=1)
    temperatures, temperature_notes = _temperatures(cosines(points_NR, centroids_ER), partition, settings)
    notes = (*features.space.notes, *partition.notes, *temperature_notes)
    clusterer = Clusterer(
        features.space,
        centroids_ER,
        Neighbours(points_NR, values_NV),
        noise=settings.noise,
        info=_info(settings, partition, notes),
        **temperatures,
    )
    return FittedClustering(clusterer, points_NR, partition, notes)


def _temperatures(
    cosines_NE: np.ndarray, partition: Partition, settings: ClusteringSettings
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The two temperatures of a clusterer, and notes."""
    by_cosine = calibrate_temperature(cosines_NE, settings.target_entropy)
    chosen = by_cosine
    if partition.memberships_NE is not None:
        is_clustered_N = partition.memberships_NE.sum(axis=1) > 0
        chosen = calibrate_temperature(
            np.log(np.maximum(partition.memberships_NE[is_clustered_N], 1e-12)), settings.target_entropy
        )
    temperatures = {
        "temperature": settings.temperature or chosen.temperature,
        "noise_temperature": by_cosine.temperature,
    }
    missed = abs(chosen.entropy - settings.target_entropy) > 0.01 and partition.num_experts > 1
    if settings.temperature is not None or not missed:
        return temperatures, ()
    return temperatures, (
        f"no temperature meets --target-entropy {settings.target_entropy}: {chosen.entropy:.2f} is nearest",
    )


def _info(settings: ClusteringSettings, partition: Partition, notes: tuple[str, ...]) -> dict[str, Any]:
    made_with = {name: value for name, value in asdict(settings).items() if not name.endswith("_dir")}
    return {
        "algorithm": settings.algorithm,
        "fitted_with": partition.algorithm,
        "fell_back": partition.algorithm != settings.algorithm,
        "cluster_sizes": [int((partition.labels_N == expert).sum()) for expert in range(partition.num_experts)],
        "num_noise": int((partition.labels_N == -1).sum()),
        "settings": made_with,
        "notes": list(notes),
    }
