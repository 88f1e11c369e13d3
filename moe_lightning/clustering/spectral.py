"""Spectral clustering: exact on a neighbour graph, by landmarks for many points."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from moe_lightning.clustering.kmeans import kmeans_labels, kmeans_partition
from moe_lightning.clustering.neighbours import labelled, search, vote
from moe_lightning.clustering.partition import Partition


def join_parts(
    graph_NN: sparse.csr_matrix, points_NR: np.ndarray, num_experts: int
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """The graph with at most as many unconnected parts as experts, and notes for the user.

    To the eigenvectors, each part is a cluster. With more parts than clusters, they cannot show related parts; so the
    smallest part is tied to its nearest outside point until few enough remain.
    """
    num_parts, part_N = connected_components(graph_NN, directed=False)
    if num_parts == 1:
        return graph_NN, ()
    said = f"the graph of nearest neighbours falls into {num_parts} unconnected parts"
    if num_parts <= num_experts:
        return graph_NN, (said,)
    edges = []
    for _ in range(num_parts - num_experts):
        inside, outside = _nearest_outside(points_NR, part_N)
        edges.append((inside, outside))
        part_N[part_N == part_N[inside]] = part_N[outside]
    rows, columns = np.array(edges).T
    ties = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=graph_NN.shape)
    joined = sparse.csr_matrix(graph_NN + ties + ties.T)
    return joined, (f"{said}; the smallest were tied to their nearest until {num_experts} were left",)


def _nearest_outside(points_NR: np.ndarray, part_N: np.ndarray) -> tuple[int, int]:
    """The nearest pair of points, one inside the smallest part and one outside."""
    from sklearn.metrics import pairwise_distances_argmin_min

    parts, sizes = np.unique(part_N, return_counts=True)
    is_inside_N = part_N == parts[sizes.argmin()]
    inside, outside = np.flatnonzero(is_inside_N), np.flatnonzero(~is_inside_N)
    nearest, distances = pairwise_distances_argmin_min(points_NR[inside], points_NR[outside])
    closest = int(distances.argmin())
    return int(inside[closest]), int(outside[nearest[closest]])


LANDMARKS_PER_EXPERT = 50
FEWEST, MOST = 1_000, 2_000
SAMPLE_PER_LANDMARK = 20


def landmark_partition(points_NR: np.ndarray, num_experts: int, seed: int) -> Partition:
    """Exactly ``num_experts`` clusters, in O(N) memory."""
    landmarks_PR = choose_landmarks(points_NR, num_experts, seed)
    graph_PP = _landmark_graph(points_NR, landmarks_PR)
    graph_PP, notes = join_parts(graph_PP, landmarks_PR, num_experts)
    labels_P = _landmark_labels(graph_PP, num_experts, seed)
    landmarks = labelled(landmarks_PR, labels_P, num_experts)
    labels_N = vote(landmarks.average(points_NR), num_experts)
    if len(np.unique(labels_N)) < num_experts:
        partition = kmeans_partition(points_NR, num_experts, seed)
        return replace(partition, algorithm="spectral", notes=(*notes, "a cluster had no point: k-means took over"))
    note = f"{len(landmarks_PR)} landmarks stood for {len(points_NR)} training utterances"
    return Partition("spectral", labels_N, notes=(note, *notes), landmarks=landmarks)


def choose_landmarks(points_NR: np.ndarray, num_experts: int, seed: int) -> np.ndarray:
    """K-means centres of a sample, (P, R)."""
    from sklearn.cluster import MiniBatchKMeans

    num_landmarks = min(len(points_NR) // 2, int(np.clip(LANDMARKS_PER_EXPERT * num_experts, FEWEST, MOST)))
    random = np.random.default_rng(seed)
    sample = random.choice(len(points_NR), min(len(points_NR), SAMPLE_PER_LANDMARK * num_landmarks), replace=False)
    fit = MiniBatchKMeans(
        num_landmarks, init="random", n_init=1, max_iter=3, batch_size=8192, reassignment_ratio=0, random_state=seed
    )
    return fit.fit(points_NR[sample]).cluster_centers_.astype(points_NR.dtype)


def _landmark_graph(points_NR: np.ndarray, landmarks_PR: np.ndarray) -> sparse.csr_matrix:
    """Z^T Z, (P, P): co-occurrence of two landmarks among the nearest of a point.

    The nearest landmarks count equally, as in a nearest-neighbour graph. With weights by distance, an outlier
    landmark would be tied to nothing else, and the eigenvectors would find it instead of a cluster.
    """
    num_landmarks = len(landmarks_PR)
    graph_PP = sparse.csr_matrix((num_landmarks, num_landmarks))
    for _, rows_MK in search(landmarks_PR, points_NR):
        starts = np.arange(0, rows_MK.size + 1, rows_MK.shape[1])
        shares = np.full(rows_MK.size, 1 / rows_MK.shape[1])
        mixture_MP = sparse.csr_matrix((shares, rows_MK.ravel(), starts), (len(rows_MK), num_landmarks))
        graph_PP = graph_PP + mixture_MP.T @ mixture_MP
    return graph_PP


def _landmark_labels(graph_PP: sparse.csr_matrix, num_experts: int, seed: int) -> np.ndarray:
    """K-means on the first eigenvectors, each landmark weighted by its degree (the points near it)."""
    from scipy.linalg import eigh
    from sklearn.cluster import KMeans

    degrees_P = np.asarray(graph_PP.sum(axis=1)).ravel()
    is_used_P = degrees_P > 0
    scale_P = np.where(is_used_P, degrees_P, 1.0) ** -0.5
    normalised_PP = sparse.diags(scale_P) @ graph_PP @ sparse.diags(scale_P)
    # dense: Lanczos does not converge if all eigenvalues lie just under 1, as for well-separated clusters
    wanted = (len(degrees_P) - num_experts, len(degrees_P) - 1)
    vectors_PE = eigh(normalised_PP.toarray(), subset_by_index=wanted)[1]
    fit = KMeans(num_experts, n_init=10, random_state=seed)
    return fit.fit_predict(vectors_PE * scale_P[:, None], sample_weight=degrees_P).astype(np.int64)


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
