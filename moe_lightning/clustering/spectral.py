"""Spectral clustering on a nearest-neighbour graph."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from moe_lightning.clustering.graph import join_parts
from moe_lightning.clustering.kmeans import kmeans_labels
from moe_lightning.clustering.partition import Partition
from moe_lightning.clustering.spectral_landmarks import landmark_partition

NUM_NEIGHBOURS, MOST_NEIGHBOURS = 10, 80
EXACT_LIMIT = 30_000
"""The neighbour search dominates and takes O(N^2) time: six seconds at this size."""
DENSE_LIMIT = 500
MOST_RESTARTS = 1_000


def spectral_partition(points_NR: np.ndarray, num_experts: int, seed: int, exact_limit: int = EXACT_LIMIT) -> Partition:
    """Exactly ``num_experts`` clusters: eigenvectors of the neighbour graph, then k-means.

    Up to ``exact_limit`` points, the partition equals scikit-learn's SpectralClustering with 10 neighbours; above,
    landmarks represent the points. Memory is O(N). With fewer than twice as many points as clusters, a graph is
    useless; k-means clusters the points.
    """
    if len(points_NR) < 2 * num_experts:
        note = f"{len(points_NR)} training utterances are few for {num_experts} experts: k-means took the graph's place"
        return Partition("spectral", kmeans_labels(points_NR, num_experts, seed), notes=(note,))
    if len(points_NR) > exact_limit:
        return landmark_partition(points_NR, num_experts, seed)
    graph_NN, notes = _graph_of_few_parts(points_NR, num_experts)
    spectrum = leading_eigenvectors(graph_NN, num_experts, seed)
    if spectrum is None:
        partition = landmark_partition(points_NR, num_experts, seed)
        return Partition(
            "spectral", partition.labels_N, None, ("Lanczos did not converge", *partition.notes), partition.landmarks
        )
    labels_N = kmeans_labels(spectrum.vectors_NE, num_experts, seed)
    return Partition("spectral", _fill_empty(labels_N, points_NR, num_experts), notes=notes)


def neighbour_graph(points_NR: np.ndarray, num_neighbours: int = NUM_NEIGHBOURS) -> sparse.csr_matrix:
    """Affinities (N, N): 1 for mutual neighbours, 0.5 for one-sided ones, among the ten nearest, itself included.

    With fewer than twenty points, the nearest half.
    """
    from sklearn.neighbors import kneighbors_graph

    num_neighbours = max(2, min(num_neighbours, len(points_NR) // 2))
    graph_NN = kneighbors_graph(points_NR, num_neighbours, include_self=True)
    return sparse.csr_matrix(0.5 * (graph_NN + graph_NN.T))


class Spectrum(NamedTuple):
    """Eigenvectors of a graph."""

    values_E: np.ndarray
    """Eigenvalues of the normalised affinities, decreasing from 1."""
    vectors_NE: np.ndarray
    """Divided by the root of the degrees, as in scikit-learn's spectral embedding."""


def leading_eigenvectors(graph_NN: sparse.csr_matrix, num_experts: int, seed: int) -> Spectrum | None:
    """The first ``num_experts`` eigenvectors; None if Lanczos does not converge.

    scikit-learn inverts the Laplacian, and the factors fill up: 40 s for 20,000 points. But the leading eigenvectors,
    one per unconnected part, are known in advance. Without them, plain Lanczos finds the rest in a fraction of a
    second.
    """
    graph_NN = graph_NN - sparse.diags(graph_NN.diagonal())
    degrees_N = np.asarray(graph_NN.sum(axis=1)).ravel()
    roots_N = np.sqrt(np.where(degrees_N > 0, degrees_N, 1.0))
    normalised_NN = sparse.csr_matrix(sparse.diags(1 / roots_N) @ graph_NN @ sparse.diags(1 / roots_N))
    part_N = connected_components(graph_NN, directed=False)[1]
    known_NC = np.eye(part_N.max() + 1)[part_N] * roots_N[:, None]
    known_NC /= np.linalg.norm(known_NC, axis=0)
    found = _largest(normalised_NN, known_NC, num_experts - known_NC.shape[1], seed)
    if found is None:
        return None
    values_E = np.concatenate([np.ones(known_NC.shape[1]), found[0]])[:num_experts]
    vectors_NE = np.concatenate([known_NC, found[1]], axis=1)[:, :num_experts]
    return Spectrum(values_E, vectors_NE / roots_N[:, None])


def _largest(
    matrix_NN: sparse.csr_matrix, known_NC: np.ndarray, num_wanted: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The largest eigenvalues, decreasing, with eigenvectors, apart from the known ones."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    size = len(known_NC)
    if num_wanted < 1:
        return np.empty(0), np.empty((size, 0))
    if size <= DENSE_LIMIT:
        # subtracted twice: once would make a known eigenvalue 0, which might still be among the largest
        values, vectors = np.linalg.eigh(matrix_NN.toarray() - 2 * known_NC @ known_NC.T)
        return values[::-1][:num_wanted], vectors[:, ::-1][:, :num_wanted]
    rest = LinearOperator(
        matrix_NN.shape,
        matvec=lambda vector_N: matrix_NN @ vector_N - 2 * known_NC @ (known_NC.T @ vector_N),
        dtype=np.float64,
    )
    start_N = np.random.default_rng(seed).normal(size=size)
    try:
        values, vectors = eigsh(
            rest, num_wanted, which="LA", v0=start_N, ncv=max(40, 3 * num_wanted), tol=1e-8, maxiter=MOST_RESTARTS
        )
    except ArpackNoConvergence:
        return None
    return values[::-1], vectors[:, ::-1]


def _graph_of_few_parts(points_NR: np.ndarray, num_experts: int) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """The neighbour graph with at most as many unconnected parts as experts, and notes for the user.

    Groups of more than ten near points, such as one speaker's utterances, may have no edge to other points. The
    number of neighbours is then doubled, up to 80, and the remaining parts are tied together.
    """
    num_neighbours, graph_NN = NUM_NEIGHBOURS, neighbour_graph(points_NR)
    num_parts = first_parts = connected_components(graph_NN, directed=False)[0]
    while num_parts > num_experts and num_neighbours < min(MOST_NEIGHBOURS, len(points_NR) // 2):
        num_neighbours *= 2
        graph_NN = neighbour_graph(points_NR, num_neighbours)
        num_parts = connected_components(graph_NN, directed=False)[0]
    graph_NN, notes = join_parts(graph_NN, points_NR, num_experts)
    if num_neighbours == NUM_NEIGHBOURS:
        return graph_NN, notes
    said = f"the graph of {NUM_NEIGHBOURS} nearest neighbours falls into {first_parts} unconnected parts"
    return graph_NN, (f"{said}; {num_neighbours} neighbours were taken", *notes)


def _fill_empty(labels_N: np.ndarray, points_NR: np.ndarray, num_experts: int) -> np.ndarray:
    """Give each empty cluster the point farthest from its own cluster's mean."""
    for expert in np.setdiff1d(np.arange(num_experts), labels_N):
        present, label_N, sizes = np.unique(labels_N, return_inverse=True, return_counts=True)
        means = np.stack([points_NR[labels_N == label].mean(axis=0) for label in present])
        distances_N = np.linalg.norm(points_NR - means[label_N], axis=1)
        labels_N[np.where(sizes[label_N] > 1, distances_N, -1).argmax()] = expert
    return labels_N
