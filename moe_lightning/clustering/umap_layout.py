"""UMAP, seeded and quiet. Imported only where it is used: umap-learn takes seconds to import."""

import warnings

import numpy as np


def umap_layout(rows_ND: np.ndarray, dim: int, seed: int, min_dist: float = 0.0) -> np.ndarray:
    """Coordinates (N, dim), float64; the same for the same rows and seed.

    Args:
        min_dist: How close rows may come to each other; 0 packs clusters, 0.5 keeps their points apart.

    Under four rows there is no neighbourhood to lay out: the first dimensions are returned.
    """
    if len(rows_ND) < 4:
        return np.pad(rows_ND, ((0, 0), (0, dim)))[:, :dim]
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one thread because it is seeded, few neighbours in small sets
        layout = umap.UMAP(
            n_components=dim,
            n_neighbors=min(15, len(rows_ND) - 1),
            min_dist=min_dist,
            init="spectral" if len(rows_ND) > dim + 10 else "random",
            random_state=seed,
        )
        return np.asarray(layout.fit_transform(rows_ND), dtype=np.float64)
