"""A partition of the training points."""

from dataclasses import dataclass, replace

import numpy as np

from moe_lightning.clustering.neighbours import Neighbours, labelled


@dataclass(frozen=True)
class Partition:
    """Clusters of the training points, and their origin."""

    algorithm: str
    """The algorithm used; after a fallback, not the requested one."""
    labels_N: np.ndarray
    """0 .. E-1, -1 is noise; every cluster has a point."""
    memberships_NE: np.ndarray | None = None
    """The algorithm's own soft labels, or None; a row sums to at most 1, the rest is noise."""
    notes: tuple[str, ...] = ()
    """Notes for the user, one sentence each."""
    landmarks: Neighbours | None = None
    """A few points that represent all when labelling others: one-hot labels with noise last, then memberships, if
    any. None: all training points are used.
    """

    @property
    def num_experts(self) -> int:
        return int(self.labels_N.max(initial=-1)) + 1

    @property
    def centres_ER(self) -> np.ndarray | None:
        """K-means centres, used to label other points; None for other algorithms."""
        if self.landmarks is None or self.algorithm != "kmeans":
            return None
        return self.landmarks.rows_NR[self.landmarks.values_NV[:, : self.num_experts].argmax(axis=0)]

    def landmarks_of(self, points_NR: np.ndarray) -> Neighbours:
        """Representative points for labelling others: the landmarks or, without them, all training points."""
        if self.landmarks is not None:
            return self.landmarks
        own = labelled(points_NR, self.labels_N, self.num_experts)
        return own if self.memberships_NE is None else own.with_more(self.memberships_NE)

    def renumbered(self) -> "Partition":
        """The same clusters, largest first; equal sizes in order of appearance."""
        num_experts = self.num_experts
        sizes_E = np.bincount(self.labels_N[self.labels_N >= 0], minlength=num_experts)
        first_E = np.array([(self.labels_N == expert).argmax() for expert in range(num_experts)])
        order_E = np.lexsort((first_E, -sizes_E))
        number_E = np.append(np.argsort(order_E), -1)  # -1 selects the last entry
        landmarks = self.landmarks
        if landmarks is not None:
            columns = [*order_E, num_experts, *(order_E + num_experts + 1)][: landmarks.values_NV.shape[1]]
            landmarks = replace(landmarks, values_NV=landmarks.values_NV[:, columns])
        memberships_NE = None if self.memberships_NE is None else self.memberships_NE[:, order_E]
        labels_N = number_E[self.labels_N]
        return replace(self, labels_N=labels_N, memberships_NE=memberships_NE, landmarks=landmarks)
