"""HDBSCAN: a search for enough clusters, and soft memberships of all points."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from moe_lightning.clustering.memberships import centroids_of
from moe_lightning.clustering.neighbours import vote
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.spectral import spectral_partition
from moe_lightning.errors import InputError
from moe_lightning.settings.clustering import HdbscanOptions


class HdbscanFit(NamedTuple):
    """Clusters of one fit."""

    labels_N: np.ndarray
    """0 .. C-1, -1 is noise."""
    memberships_NC: np.ndarray
    """Not negative; a row sums to at most 1, the rest is noise. (N, 0) without a cluster."""
    num_clusters: int


def fit_hdbscan(points_NR: np.ndarray, min_cluster_size: int, options: HdbscanOptions) -> HdbscanFit:
    """Run HDBSCAN once, with this ``min_cluster_size`` instead of the one in the options.

    Args:
        points_NR: For the metric ``cosine``, rows of length 1: then Euclidean distance gives the same order.

    Raises:
        InputError: The library refuses the metric, or its combination with the tree.
    """
    num_points = len(points_NR)
    if num_points < 3:
        return HdbscanFit(np.full(num_points, -1), np.zeros((num_points, 0)), 0)
    fit = _fit(points_NR, min_cluster_size, options)
    labels_N = np.asarray(fit.labels_, dtype=np.int64)
    num_clusters = int(labels_N.max(initial=-1)) + 1
    return HdbscanFit(labels_N, _memberships(fit, labels_N, num_clusters), num_clusters)


def _fit(points_NR: np.ndarray, min_cluster_size: int, options: HdbscanOptions) -> Any:
    import hdbscan

    model = hdbscan.HDBSCAN(
        min_cluster_size=min_cluster_size,
        min_samples=min(options.min_samples or min_cluster_size, len(points_NR) - 1),
        metric="euclidean" if options.metric == "cosine" else options.metric,
        allow_single_cluster=options.allow_single_cluster,
        algorithm=options.hdbscan_algorithm,
        prediction_data=True,
        core_dist_n_jobs=1,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(points_NR.astype(np.float64))  # the generic tree does not accept float32
    except (ValueError, TypeError) as error:
        raise InputError(
            "setting.conflict",
            f"HDBSCAN refuses --metric {options.metric} with --hdbscan-algorithm {options.hdbscan_algorithm} ({error});"
            " euclidean, cosine, manhattan and chebyshev work with each",
            f"--metric {options.metric}",
        ) from error


def _memberships(fit: Any, labels_N: np.ndarray, num_clusters: int) -> np.ndarray:
    import hdbscan

    if num_clusters == 0:
        return np.zeros((len(labels_N), 0))
    if num_clusters == 1:
        return np.where(labels_N == 0, fit.probabilities_, 0.0)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        memberships_NC = np.asarray(hdbscan.all_points_membership_vectors(fit), dtype=np.float64)
    return _valid(memberships_NC, labels_N)


def _valid(memberships_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Rows that are not negative and sum to at most 1; a row with NaN becomes its one-hot hard label."""
    one_hot_NC = np.eye(memberships_NC.shape[1] + 1)[labels_N][:, :-1]  # -1 selects the last row: noise, all zeros
    is_broken_N1 = ~np.isfinite(memberships_NC).all(axis=1, keepdims=True)
    valid_NC = np.clip(np.where(is_broken_N1, one_hot_NC, memberships_NC), 0, None)
    return valid_NC / np.maximum(valid_NC.sum(axis=1, keepdims=True), 1)


SAMPLE_LIMIT = 10_000
"""HDBSCAN takes O(N^2) time in tens of dimensions: 17 seconds per fit for 10,000 points in 50 dimensions."""


def hdbscan_partition(
    points_NR: np.ndarray,
    num_experts: int,
    seed: int,
    options: HdbscanOptions,
    *,
    keeps_all: bool = False,
    sample_limit: int = SAMPLE_LIMIT,
) -> Partition:
    """HDBSCAN on the points; above ``sample_limit`` points, on a random sample.

    A point outside the sample takes label and memberships from its nearest five sample points.

    Args:
        keeps_all: As many experts as clusters; ``num_experts`` is then used only if spectral clustering replaces
            HDBSCAN.

    Raises:
        InputError: Too few clusters with ``no_reduce_experts``.
    """
    if len(points_NR) <= sample_limit:
        return exact_partition(points_NR, num_experts, seed, options, keeps_all)
    sample = np.sort(np.random.default_rng(seed).permutation(len(points_NR))[:sample_limit])
    fitted = exact_partition(points_NR[sample], num_experts, seed, options, keeps_all)
    landmarks = fitted.landmarks_of(points_NR[sample])
    values_NV = landmarks.average(points_NR)
    memberships_NE = None if fitted.memberships_NE is None else values_NV[:, fitted.num_experts + 1 :]
    note = f"HDBSCAN saw a sample of {sample_limit} of the {len(points_NR)} training utterances"
    labels_N = vote(values_NV, fitted.num_experts)
    return Partition(fitted.algorithm, labels_N, memberships_NE, (note, *fitted.notes), landmarks)


def exact_partition(
    points_NR: np.ndarray, num_experts: int, seed: int, options: HdbscanOptions, keeps_all: bool = False
) -> Partition:
    """At most ``num_experts`` clusters, and at least ``options.min_experts``.

    Too few clusters: as many experts as clusters, or an error with ``no_reduce_experts``. Fewer than ``min_experts``,
    or none: spectral clustering, with a note. More than ``num_experts``: the nearest clusters are merged.
    """
    fit, min_cluster_size = search(points_NR, options)
    found = f"HDBSCAN found {fit.num_clusters} clusters (min_cluster_size {min_cluster_size})"
    wanted = options.min_clusters if keeps_all else max(options.min_clusters, num_experts)
    if options.no_reduce_experts and fit.num_clusters < wanted:
        raise InputError(
            "clusters.too-few",
            f"{found}, --no-reduce-experts wants {wanted}; lower --min-clusters or --num-experts",
            wanted,
        )
    if fit.num_clusters < options.min_experts or fit.num_clusters == 0:
        return _fallback(points_NR, num_experts, seed, options, found, fit.num_clusters)
    partition = Partition("hdbscan", fit.labels_N, fit.memberships_NC, (found,))
    if keeps_all or fit.num_clusters == num_experts:
        return partition
    if fit.num_clusters > num_experts:
        return merge_clusters(points_NR, partition, max(num_experts, options.min_experts))
    return replace(partition, notes=(f"{found}: {fit.num_clusters} experts instead of {num_experts}",))


def search(points_NR: np.ndarray, options: HdbscanOptions) -> tuple[HdbscanFit, int]:
    """Decrease min_cluster_size until a fit has ``min_clusters`` clusters; else the fit with most clusters."""
    best: tuple[HdbscanFit, int] | None = None
    for retry in range(options.max_retries + 1):
        min_cluster_size = options.min_cluster_size - retry
        if min_cluster_size < 2:
            break
        fit = fit_hdbscan(points_NR, min_cluster_size, options)
        if best is None or fit.num_clusters > best[0].num_clusters:
            best = fit, min_cluster_size
        if fit.num_clusters >= options.min_clusters:
            break
    assert best is not None, "min_cluster_size is at least 2"
    return best


def merge_clusters(points_NR: np.ndarray, partition: Partition, num_experts: int) -> Partition:
    """Merge clusters with near centroids until ``num_experts`` are left; their memberships add up."""
    from sklearn.cluster import AgglomerativeClustering

    assert partition.memberships_NE is not None, "only HDBSCAN finds more clusters than wanted"
    if partition.num_experts <= num_experts:
        return partition
    centroids_CR = centroids_of(points_NR, partition.labels_N, partition.num_experts)
    if num_experts == 1:
        expert_C = np.zeros(len(centroids_CR), dtype=np.int64)
    else:
        expert_C = AgglomerativeClustering(num_experts).fit_predict(centroids_CR)
    return Partition(
        partition.algorithm,
        np.append(expert_C, -1)[partition.labels_N],
        partition.memberships_NE @ np.eye(num_experts)[expert_C],
        (*partition.notes, f"the nearest of {partition.num_experts} clusters were merged into {num_experts}"),
    )


def _fallback(
    points_NR: np.ndarray, num_experts: int, seed: int, options: HdbscanOptions, found: str, num_clusters: int
) -> Partition:
    wanted = num_clusters or min(num_experts, len(points_NR))  # no cluster: nothing to shrink to
    num_experts = min(max(options.min_experts, wanted), len(points_NR))
    partition = spectral_partition(points_NR, num_experts, seed)
    note = f"{found}: spectral clustering into {num_experts} took its place"
    return replace(partition, notes=(note, *partition.notes))
