"""What an algorithm makes of the training points."""

from dataclasses import dataclass, replace

import numpy as np


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

    @property
    def num_experts(self) -> int:
        return int(self.labels_N.max(initial=-1)) + 1

    def renumbered(self) -> "Partition":
        """The same clusters, the largest first; of two as large, the one seen first."""
        sizes_E = np.bincount(self.labels_N[self.labels_N >= 0], minlength=self.num_experts)
        first_E = np.array([(self.labels_N == expert).argmax() for expert in range(self.num_experts)])
        order_E = np.lexsort((first_E, -sizes_E))
        number_E = np.append(np.argsort(order_E), -1)  # the last entry is where -1 points to
        memberships_NE = None if self.memberships_NE is None else self.memberships_NE[:, order_E]
        return replace(self, labels_N=number_E[self.labels_N], memberships_NE=memberships_NE)
