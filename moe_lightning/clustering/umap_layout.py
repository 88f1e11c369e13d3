"""UMAP, seeded and quiet. Imported only where it is used: umap-learn takes seconds to import."""

import warnings

import numpy as np

NUM_NEIGHBOURS = 15


def umap_layout(rows_ND: np.ndarray, dim: int, seed: int, min_dist: float = 0.0) -> np.ndarray:
    """Coordinates (N, dim), float64; the same for the same rows and seed.

    Under four rows there is no neighbourhood to lay out: the first dimensions are returned.

    Args:
        min_dist: How close rows may come to each other; 0 packs clusters, 0.5 keeps their points apart.
    """
    if len(rows_ND) < 4:
        return np.pad(rows_ND, ((0, 0), (0, dim)))[:, :dim]
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one thread because it is seeded, no search index, a graph in parts
        layout = umap.UMAP(
            n_components=dim,
            n_neighbors=min(NUM_NEIGHBOURS, len(rows_ND) - 1),
            min_dist=min_dist,
            init="spectral" if len(rows_ND) > dim + 10 else "random",
            random_state=seed,
            precomputed_knn=_neighbours(rows_ND),
            force_approximation_algorithm=True,  # or small sets are searched again
        )
        return np.asarray(layout.fit_transform(rows_ND.astype(np.float32)), dtype=np.float64)


def _neighbours(rows_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances of the nearest neighbours, itself first.

    By scikit-learn, because umap-learn compiles its own search anew in every process: ten seconds.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(NUM_NEIGHBOURS, len(rows_ND) - 1), algorithm="brute").fit(rows_ND)
    distances_NK, rows_NK = search.kneighbors(rows_ND)
    return rows_NK.astype(np.int64), distances_NK.astype(np.float32)
