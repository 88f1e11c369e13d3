"""All algorithms behind one interface: training points in, a partition out."""

from collections.abc import Sequence

import numpy as np

from moe_lightning.clustering.given_labels import label_partition, random_partition
from moe_lightning.clustering.hdbscan import hdbscan_partition
from moe_lightning.clustering.kmeans import balanced_partition, kmeans_partition
from moe_lightning.clustering.num_experts import Choice
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.spectral import spectral_partition
from moe_lightning.errors import InputError
from moe_lightning.settings.clustering import ClusteringSettings

GLANCE = 1_000

_BY_NUMBER = {
    "spectral": spectral_partition,
    "balanced": balanced_partition,
    "random": random_partition,
}


def partition_points(
    points_NR: np.ndarray,
    settings: ClusteringSettings,
    choice: Choice | None = None,
    field_values: Sequence[str | None] | None = None,
    weights_N: np.ndarray | None = None,
) -> Partition:
    """Cluster the points by ``settings.algorithm``.

    Args:
        choice: Number of experts, for settings that leave it open.
        field_values: For ``label``: manifest value per point, None if missing.
        weights_N: For ``kmeans``: weight per point; None: equal weights.

    Raises:
        InputError: Fewer (different) points than clusters.
    """
    if settings.algorithm == "label":
        assert settings.label_field is not None, "checked by the settings"
        assert field_values is not None, "read from the manifests by the command"
        return label_partition(points_NR, field_values, settings.label_field)
    num_experts = settings.num_experts or (choice.num_experts if choice else 1)
    _check_enough(points_NR, num_experts, settings)
    if settings.algorithm == "kmeans":
        return kmeans_partition(points_NR, num_experts, settings.seed, weights_N)
    if settings.algorithm != "hdbscan":
        return _BY_NUMBER[settings.algorithm](points_NR, num_experts, settings.seed)
    keeps_all = settings.num_experts is None
    return hdbscan_partition(points_NR, num_experts, settings.seed, settings.hdbscan, keeps_all=keeps_all)


def _check_enough(points_NR: np.ndarray, num_experts: int, settings: ClusteringSettings) -> None:
    shrinks = settings.algorithm == "hdbscan" and not settings.hdbscan.no_reduce_experts
    wanted, flag = (settings.hdbscan.min_experts, "min") if shrinks else (num_experts, "num")
    if len(np.unique(points_NR[:GLANCE].round(9), axis=0)) >= wanted:
        return  # no need to sort a million rows to find eight that differ
    num_different = len(np.unique(points_NR.round(9), axis=0))
    if num_different < wanted:
        raise InputError(
            "clusters.too-few",
            f"the train split has {len(points_NR)} utterances with {num_different} different embeddings,"
            f" --{flag}-experts {wanted} needs as many; lower it or embed more utterances",
            num_different,
        )
