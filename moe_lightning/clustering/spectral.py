"""Spectral clustering on a graph of nearest neighbours."""

import warnings

import numpy as np
import scipy.sparse as sparse

from moe_lightning.clustering.graph import join_parts
from moe_lightning.clustering.kmeans import kmeans_labels
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.spectral_landmarks import landmark_partition

NUM_NEIGHBOURS = 10
EXACT_LIMIT = 4_000
"""Up to so many points scikit-learn's eigenvectors take a second or two; beyond, landmarks are faster."""


def spectral_partition(points_NR: np.ndarray, num_experts: int, seed: int, exact_limit: int = EXACT_LIMIT) -> Partition:
    """Exactly ``num_experts`` clusters: eigenvectors of the neighbour graph, then k-means.

    Up to ``exact_limit`` points the partition is scikit-learn's SpectralClustering with 10 neighbours;
    beyond, landmarks stand for the points, and memory grows with N alone. Fewer than twice as many
    points as clusters make no graph worth the name; k-means takes the points.
    """
    if len(points_NR) < 2 * num_experts:
        note = f"{len(points_NR)} training utterances are few for {num_experts} experts: k-means took the graph's place"
        return Partition("spectral", kmeans_labels(points_NR, num_experts, seed), notes=(note,))
    if len(points_NR) > exact_limit:
        return landmark_partition(points_NR, num_experts, seed)
    graph_NN, notes = join_parts(neighbour_graph(points_NR), points_NR, num_experts)
    labels_N = _labels(graph_NN, num_experts, seed)
    return Partition("spectral", _fill_empty(labels_N, points_NR, num_experts), notes=notes)


def neighbour_graph(points_NR: np.ndarray) -> sparse.csr_matrix:
    """Affinities (N, N): 1 where each is among the other's ten nearest, itself counted, 0.5 where one is.

    Of fewer than twenty points, the nearest half.
    """
    from sklearn.neighbors import kneighbors_graph

    num_neighbours = max(2, min(NUM_NEIGHBOURS, len(points_NR) // 2))
    graph_NN = kneighbors_graph(points_NR, num_neighbours, include_self=True)
    return sparse.csr_matrix(0.5 * (graph_NN + graph_NN.T))


def _labels(graph_NN: sparse.csr_matrix, num_experts: int, seed: int) -> np.ndarray:
    from sklearn.cluster import SpectralClustering

    fit = SpectralClustering(num_experts, affinity="precomputed", assign_labels="kmeans", random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")  # said in our own words
        return fit.fit_predict(graph_NN).astype(np.int64)


def _fill_empty(labels_N: np.ndarray, points_NR: np.ndarray, num_experts: int) -> np.ndarray:
    """Each empty cluster gets the point that is farthest from its own cluster's mean."""
    for expert in np.setdiff1d(np.arange(num_experts), labels_N):
        present, label_N, sizes = np.unique(labels_N, return_inverse=True, return_counts=True)
        means = np.stack([points_NR[labels_N == label].mean(axis=0) for label in present])
        distances_N = np.linalg.norm(points_NR - means[label_N], axis=1)
        labels_N[np.where(sizes[label_N] > 1, distances_N, -1).argmax()] = expert
    return labels_N
