"""One fit of HDBSCAN; all quirks of the library are handled in this file.

Seen in hdbscan 0.8.44: rows of ``all_points_membership_vectors`` sum to anything in 0 .. 1, and hold NaN where points
coincide. Without a cluster the result is 1-D. A single cluster raises a KeyError. No tree supports the cosine. More
samples than points raise a ValueError.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np

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
            f"HDBSCAN refuses --metric {options.metric} with --hdbscan-algorithm {options.hdbscan_algorithm} ({error});"
            " euclidean, cosine, manhattan and chebyshev work with each"
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
