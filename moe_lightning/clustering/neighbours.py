"""Nearest-neighbour search, averages and votes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NUM_NEIGHBOURS = 5
CHUNK = 50_000  # queries per search: memory stays constant for any number of queries


class Nearest(NamedTuple):
    """Nearest rows per query, nearest first."""

    distances_MK: np.ndarray
    rows_MK: np.ndarray


def search(rows_NR: np.ndarray, queries_MR: np.ndarray, num_neighbours: int = NUM_NEIGHBOURS) -> Iterator[Nearest]:
    """Nearest rows by Euclidean distance, exact, 50,000 queries at a time."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=min(num_neighbours, len(rows_NR)), algorithm="brute").fit(rows_NR)
    for start in range(0, len(queries_MR), CHUNK):
        yield Nearest(*model.kneighbors(queries_MR[start : start + CHUNK]))


@dataclass(frozen=True)
class Neighbours:
    """Labelled rows with a value each; new rows take the values of their nearest rows."""

    rows_NR: np.ndarray
    values_NV: np.ndarray
    """Coordinates, memberships or one-hot labels of the labelled rows."""

    def average(self, queries_MR: np.ndarray) -> np.ndarray:
        """Mean value of the five nearest rows, weighted by the inverse squared distance, (M, V).

        A query equal to a labelled row gets that row's value; with several copies, their mean.
        """
        size = float(np.abs(self.rows_NR).max(initial=0.0)) or 1.0
        averages = []
        for distances_MK, rows_MK in search(self.rows_NR, queries_MR):
            weights_MK = 1 / np.maximum(distances_MK, 1e-6 * size) ** 2
            weights_MK /= weights_MK.sum(axis=1, keepdims=True)
            averages.append(np.einsum("mk,mkv->mv", weights_MK, self.values_NV[rows_MK]))
        return np.concatenate(averages)

    def with_more(self, values_NV: np.ndarray) -> "Neighbours":
        """The same rows, with additional values."""
        return Neighbours(self.rows_NR, np.concatenate([self.values_NV, values_NV], axis=1))


def labelled(rows_NR: np.ndarray, labels_N: np.ndarray, num_experts: int) -> Neighbours:
    """Rows with one-hot label values over the experts and, last, noise (-1)."""
    return Neighbours(rows_NR, np.eye(num_experts + 1)[labels_N])  # -1 selects the last row


def vote(values_NV: np.ndarray, num_experts: int) -> np.ndarray:
    """Label with the largest of the first E + 1 values, int64; -1 is noise."""
    winners_N = values_NV[:, : num_experts + 1].argmax(axis=1)
    return np.where(winners_N == num_experts, -1, winners_N).astype(np.int64)
