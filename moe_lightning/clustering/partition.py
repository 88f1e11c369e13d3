"""What an algorithm makes of the training points."""

from dataclasses import dataclass, replace

import numpy as np

from moe_lightning.clustering.neighbours import Neighbours, labelled


@dataclass(frozen=True)
class Partition:
    """Clusters of the training points, and how they came about."""

    algorithm: str
    """The one that made it; another than the one asked for after a fallback."""
    labels_N: np.ndarray
    """0 .. E-1, -1 is noise; every cluster has a point."""
    memberships_NE: np.ndarray | None = None
    """The algorithm's own soft labels; a row sums to at most 1, the rest is noise. None: it has none."""
    notes: tuple[str, ...] = ()
    """What the user should be told, a sentence each."""
    landmarks: Neighbours | None = None
    """Few points that speak for all when others are labelled: one-hot labels with noise last, then
    memberships if there are any. None: the training points speak for themselves."""

    @property
    def num_experts(self) -> int:
        return int(self.labels_N.max(initial=-1)) + 1

    @property
    def centres_ER(self) -> np.ndarray | None:
        """Centres of k-means, by which it labels other points; None of other algorithms."""
        if self.landmarks is None or self.algorithm != "kmeans":
            return None
        return self.landmarks.rows_NR[self.landmarks.values_NV[:, : self.num_experts].argmax(axis=0)]

    def speakers(self, points_NR: np.ndarray) -> Neighbours:
        """The points that label others: the landmarks or, without them, all training points."""
        if self.landmarks is not None:
            return self.landmarks
        own = labelled(points_NR, self.labels_N, self.num_experts)
        return own if self.memberships_NE is None else own.with_more(self.memberships_NE)

    def renumbered(self) -> "Partition":
        """The same clusters, the largest first; of two as large, the one seen first."""
        num_experts = self.num_experts
        sizes_E = np.bincount(self.labels_N[self.labels_N >= 0], minlength=num_experts)
        first_E = np.array([(self.labels_N == expert).argmax() for expert in range(num_experts)])
        order_E = np.lexsort((first_E, -sizes_E))
        number_E = np.append(np.argsort(order_E), -1)  # the last entry is where -1 points to
        landmarks = self.landmarks
        if landmarks is not None:
            columns = [*order_E, num_experts, *(order_E + num_experts + 1)][: landmarks.values_NV.shape[1]]
            landmarks = replace(landmarks, values_NV=landmarks.values_NV[:, columns])
        memberships_NE = None if self.memberships_NE is None else self.memberships_NE[:, order_E]
        labels_N = number_E[self.labels_N]
        return replace(self, labels_N=labels_N, memberships_NE=memberships_NE, landmarks=landmarks)
