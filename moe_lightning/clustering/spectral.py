"""Spectral clustering on a graph of nearest neighbours."""

import warnings

import numpy as np

from moe_lightning.clustering.partition import Partition

NUM_NEIGHBOURS = 10


def spectral_partition(points_NR: np.ndarray, num_experts: int, seed: int) -> Partition:
    """Exactly ``num_experts`` clusters: eigenvectors of the neighbour graph, then k-means.

    Fewer than twice as many points as clusters make no graph worth the name; k-means takes the points.
    """
    if len(points_NR) < 2 * num_experts:
        note = f"{len(points_NR)} training utterances are few for {num_experts} experts: k-means took the graph's place"
        return _filled("spectral", kmeans_labels(points_NR, num_experts, seed), points_NR, num_experts, (note,))
    num_neighbours = max(2, min(NUM_NEIGHBOURS, len(points_NR) // 2))
    labels_N, num_parts = _graph_labels(points_NR, num_experts, num_neighbours, seed)
    notes = () if num_parts == 1 else (f"the graph of nearest neighbours falls into {num_parts} unconnected parts",)
    return _filled("spectral", labels_N, points_NR, num_experts, notes)


def kmeans_labels(points_NR: np.ndarray, num_experts: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    return KMeans(num_experts, n_init=10, random_state=seed).fit_predict(points_NR).astype(np.int64)


def _graph_labels(points_NR: np.ndarray, num_experts: int, num_neighbours: int, seed: int) -> tuple[np.ndarray, int]:
    """Labels, and the number of unconnected parts of the graph."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.cluster import SpectralClustering

    fit = SpectralClustering(
        num_experts, affinity="nearest_neighbors", n_neighbors=num_neighbours, assign_labels="kmeans", random_state=seed
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")  # said in our own words
        labels_N = fit.fit_predict(points_NR).astype(np.int64)
    return labels_N, int(connected_components(fit.affinity_matrix_)[0])


def _filled(
    algorithm: str, labels_N: np.ndarray, points_NR: np.ndarray, num_experts: int, notes: tuple[str, ...]
) -> Partition:
    """The partition, each empty cluster given the point that is farthest from its own cluster's mean."""
    labels_N = labels_N.copy()
    for expert in np.setdiff1d(np.arange(num_experts), labels_N):
        present, label_N, sizes = np.unique(labels_N, return_inverse=True, return_counts=True)
        means = np.stack([points_NR[labels_N == label].mean(axis=0) for label in present])
        distances_N = np.linalg.norm(points_NR - means[label_N], axis=1)
        labels_N[np.where(sizes[label_N] > 1, distances_N, -1).argmax()] = expert
    return Partition(algorithm, labels_N, notes=notes)
