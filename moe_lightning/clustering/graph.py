"""Graphs that fall into parts."""

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components


def join_parts(
    graph_NN: sparse.csr_matrix, points_NR: np.ndarray, num_experts: int
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """The graph with no more unconnected parts than experts, and what to tell the user.

    Parts are clusters of their own to the eigenvectors. With more parts than clusters those say nothing
    of which parts belong together, so the smallest is tied to the point nearest to it until few enough remain.
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
    """The two nearest points of which one is in the smallest part and the other is not."""
    from sklearn.metrics import pairwise_distances_argmin_min

    parts, sizes = np.unique(part_N, return_counts=True)
    is_inside_N = part_N == parts[sizes.argmin()]
    inside, outside = np.flatnonzero(is_inside_N), np.flatnonzero(~is_inside_N)
    nearest, distances = pairwise_distances_argmin_min(points_NR[inside], points_NR[outside])
    closest = int(distances.argmin())
    return int(inside[closest]), int(outside[nearest[closest]])
