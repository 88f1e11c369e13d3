"""K-means, plain and balanced."""

import warnings

import numpy as np

from moe_lightning.clustering.neighbours import Neighbours, labelled
from moe_lightning.clustering.partition import Partition

BALANCING_ROUNDS = 20
PRICE_STEPS = 100


def kmeans_labels(points_NR: np.ndarray, num_experts: int, seed: int) -> np.ndarray:
    """Labels from the best of ten starts, int64."""
    return kmeans_partition(points_NR, num_experts, seed).labels_N


def kmeans_partition(
    points_NR: np.ndarray, num_experts: int, seed: int, weights_N: np.ndarray | None = None
) -> Partition:
    """``num_experts`` clusters, fewer only if fewer points differ; a new point belongs to the nearest centre.

    Args:
        weights_N: Weight per point; None: equal weights.
    """
    labels_N, centres = _kmeans(points_NR, num_experts, seed, weights_N)
    return Partition("kmeans", labels_N, landmarks=centres)


def balanced_partition(points_NR: np.ndarray, num_experts: int, seed: int) -> Partition:
    """Clusters with at most ceil(N / E) points; a new point takes the label of its nearest points.

    As in c-BTM (Gururangan et al., "Scaling Expert Language Models with Unsupervised Domain Discovery", 2023, section
    2.1): balanced for expert training, greedy afterwards. There, new text goes to the nearest centre; here, training
    utterances get their own label back.
    """
    labels_N, centres = _kmeans(points_NR, num_experts, seed)
    for _ in range(BALANCING_ROUNDS):
        before_N = labels_N
        costs_NE = _squared_distances(points_NR, centres.rows_NR)
        labels_N = balanced_labels(costs_NE)
        used, labels_N = np.unique(labels_N, return_inverse=True)
        centres_ER = np.stack([points_NR[labels_N == expert].mean(axis=0) for expert in range(len(used))])
        centres = labelled(centres_ER, np.arange(len(used)), len(used))
        if (labels_N == before_N).all():
            break
    return Partition("balanced", labels_N)


def balanced_labels(costs_NE: np.ndarray) -> np.ndarray:
    """Low-cost labels with at most ceil(N / E) points per expert.

    Each expert takes a price until the demand is even (Sinkhorn's algorithm at a low temperature). Any remaining
    excess then moves, cheapest point first, to experts with room.
    """
    num_points, num_experts = costs_NE.shape
    capacity = -(-num_points // num_experts)
    net_NE = costs_NE + _prices(costs_NE)
    labels_N = net_NE.argmin(axis=1)
    sizes_E = np.bincount(labels_N, minlength=num_experts)
    while sizes_E.max() > capacity:
        crowded = sizes_E.argmax()
        own = np.flatnonzero(labels_N == crowded)
        with_room_E = np.where(sizes_E < capacity, 0.0, np.inf)
        extra_ME = net_NE[own] - net_NE[own, [crowded]][:, None] + with_room_E
        point, expert = np.unravel_index(extra_ME.argmin(), extra_ME.shape)
        labels_N[own[point]] = expert
        sizes_E[crowded] -= 1
        sizes_E[expert] += 1
    return labels_N


def _kmeans(
    points_NR: np.ndarray, num_experts: int, seed: int, weights_N: np.ndarray | None = None
) -> tuple[np.ndarray, Neighbours]:
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")  # points that coincide
        fit = KMeans(num_experts, n_init=10, random_state=seed).fit(points_NR, sample_weight=weights_N)
    used, labels_N = np.unique(fit.labels_, return_inverse=True)
    return labels_N.astype(np.int64), labelled(fit.cluster_centers_[used], np.arange(len(used)), len(used))


def _squared_distances(points_NR: np.ndarray, centres_ER: np.ndarray) -> np.ndarray:
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(points_NR, centres_ER, squared=True)


def _prices(costs_NE: np.ndarray) -> np.ndarray:
    num_points, num_experts = costs_NE.shape
    temperature = 0.02 * float(costs_NE.std()) or 1.0
    prices_E = np.zeros(num_experts)
    for _ in range(PRICE_STEPS):
        logits_NE = -(costs_NE + prices_E) / temperature
        shares_NE = np.exp(logits_NE - logits_NE.max(axis=1, keepdims=True))
        load_E = (shares_NE / shares_NE.sum(axis=1, keepdims=True)).sum(axis=0) * num_experts / num_points
        prices_E = prices_E + temperature * np.log(np.maximum(load_E, 1e-6))
    return prices_E
