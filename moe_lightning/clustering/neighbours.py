"""What the nearest training rows say of a new row."""

from dataclasses import dataclass

import numpy as np

NUM_NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbours:
    """Training rows with a value each; new rows take the values of those nearest to them."""

    rows_NR: np.ndarray
    values_NV: np.ndarray
    """Coordinates, memberships or one-hot labels of the training rows."""

    def average(self, queries_MR: np.ndarray) -> np.ndarray:
        """Mean of the five nearest rows' values, weighted by the inverse square of the distance, (M, V).

        A query that is a training row gets that row's value; one with several copies, their mean.
        """
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=min(NUM_NEIGHBOURS, len(self.rows_NR)), algorithm="brute")
        distances_MK, rows_MK = search.fit(self.rows_NR).kneighbors(queries_MR)
        size = float(np.abs(self.rows_NR).max(initial=0.0)) or 1.0
        weights_MK = 1 / np.maximum(distances_MK, 1e-6 * size) ** 2
        weights_MK /= weights_MK.sum(axis=1, keepdims=True)
        return np.einsum("mk,mkv->mv", weights_MK, self.values_NV[rows_MK])
