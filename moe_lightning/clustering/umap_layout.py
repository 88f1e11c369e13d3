"""UMAP (McInnes, Healy and Melville, "UMAP: Uniform Manifold Approximation and Projection", 2018), seeded and quiet.

umap-learn computes the layout. Its neighbour search and fuzzy graph are compiled anew in every process, fifteen
seconds for two short computations, so both are done here. Import this module only when needed: umap-learn takes
seconds to import.
"""

import warnings

import numpy as np
import scipy.sparse as sparse

from moe_lightning.clustering.neighbours import search

NUM_NEIGHBOURS = 15
BISECTIONS = 64


def umap_layout(rows_ND: np.ndarray, dim: int, seed: int, min_dist: float = 0.0) -> np.ndarray:
    """Coordinates (N, dim), float64; the same for the same rows and seed.

    Fewer than four rows have no neighbourhood: the result is their first dimensions.

    Args:
        min_dist: Least distance between rows; 0 packs clusters, 0.5 keeps their points apart.
    """
    if len(rows_ND) < 4:
        return np.pad(rows_ND, ((0, 0), (0, dim)))[:, :dim]
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(spread=1.0, min_dist=min_dist)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a graph in parts
        layout, _ = simplicial_set_embedding(
            data=rows_ND.astype(np.float32),
            graph=fuzzy_graph(rows_ND).tocoo(),
            n_components=dim,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=500 if len(rows_ND) <= 10_000 else 200,  # umap-learn's own choice
            init="spectral" if len(rows_ND) > dim + 10 else "random",
            random_state=np.random.RandomState(seed),
            metric="euclidean",
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
        )
    return np.asarray(layout, dtype=np.float64)


def fuzzy_graph(rows_ND: np.ndarray, num_neighbours: int = NUM_NEIGHBOURS) -> sparse.csr_matrix:
    """Symmetric strengths (N, N) between neighbours, in 0 .. 1 (section 3.1 of the paper).

    A row's nearest neighbour has strength 1. Strengths decay with distance, at a rate where they sum to log2 of the
    number of neighbours, the row itself counted.
    """
    num_rows, num_neighbours = len(rows_ND), min(num_neighbours, len(rows_ND) - 1)
    found = list(search(rows_ND, rows_ND, num_neighbours + 1))
    distances_NK, rows_NK = (np.concatenate(parts)[:, 1:] for parts in zip(*found, strict=True))  # not itself
    beyond_NK = distances_NK - distances_NK[:, :1]
    strengths_NK = np.exp(-beyond_NK / _fall_off(beyond_NK)[:, None])
    starts = np.arange(0, rows_NK.size + 1, num_neighbours)
    one_way = sparse.csr_matrix((strengths_NK.ravel(), rows_NK.ravel(), starts), (num_rows, num_rows))
    return sparse.csr_matrix(one_way + one_way.T - one_way.multiply(one_way.T))  # a or b, of independent a and b


def _fall_off(beyond_NK: np.ndarray) -> np.ndarray:
    """Scales (N,) at which ``exp(-beyond / scale)`` sums to log2(K + 1), by bisection."""
    target = np.log2(beyond_NK.shape[1] + 1)
    size = float(beyond_NK.mean()) or 1.0
    low_N, high_N = np.full(len(beyond_NK), 1e-3 * size), np.full(len(beyond_NK), 1e3 * size)
    for _ in range(BISECTIONS):
        middle_N = (low_N + high_N) / 2
        is_small_N = np.exp(-beyond_NK / middle_N[:, None]).sum(axis=1) < target
        low_N, high_N = np.where(is_small_N, middle_N, low_N), np.where(is_small_N, high_N, middle_N)
    return high_N
