"""Graphs with unconnected parts."""

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components


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
