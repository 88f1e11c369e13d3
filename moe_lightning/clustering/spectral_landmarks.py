"""Spectral clustering of many points by few landmarks.

Chen and Cai, "Large Scale Spectral Clustering with Landmark-Based Representation" (AAAI 2011): a point is a sparse
mixture Z of its nearest landmarks, and the graph is Z Z^T. Its eigenvectors come from the small landmark matrix Z^T
Z, summed over chunks of points. Here the landmarks are clustered, and each point takes the majority label of its
landmarks: training points and new points follow the same rule.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sparse

from moe_lightning.clustering.graph import join_parts
from moe_lightning.clustering.kmeans import kmeans_partition
from moe_lightning.clustering.neighbours import labelled, search, vote
from moe_lightning.clustering.partition import Partition

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
