"""Training order: the utterances in each batch, and the batch order.

An epoch's batches are a pure function of (durations, settings, seed, epoch): any number of workers, a resumed
run and every rank compute the same batches. Only the number of finished batches has to be saved.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from moe_lightning.errors import InputError

Batches: TypeAlias = list[list[int]]

POOL_BATCHES = 200
"""Batches per length-sorted pool: more means less padding, but less random batches."""
LENGTH_JITTER = 0.015
"""Spread of the noise on log-lengths before sorting, so that a small corpus gets new batches every epoch."""
QUADRATIC_SECONDS = 20.0
"""An utterance of this length counts double against ``max_seconds``, one of half the length 1.5 times its seconds:
attention is quadratic in length. The form is lhotse's ``quadratic_duration``.
"""


class BatchPlan:
    """Batches of similar length, in a seeded order, the same number on every rank.

    Every utterance comes exactly once per epoch over all ranks. If the batches do not divide by the ranks, some are
    split; none is repeated. Batches of the same step have similar lengths, so that no rank waits long for
    another. The costliest step of epoch 0 comes first (with groups: first in its group), so that a batch too large
    for memory fails early.

    Args:
        durations_N: Seconds of each utterance.
        batch_size: Maximum number of utterances per batch.
        seed: Determines the order, together with the epoch.
        max_seconds: Maximum cost of a batch: its size times the cost of its longest utterance, in seconds with the
            penalty of `quadratic_seconds`. An utterance over the limit is a batch alone. None leaves the size to
            ``batch_size``.
        quadratic_seconds: An utterance of d seconds costs ``d + d * d / quadratic_seconds``; ``inf`` for no penalty.
        groups_N: Group of each utterance, for batches within one group. A group's batches and their order are the
            same as for a plan of that group alone.
        by_group: False ignores the groups.
    """

    def __init__(
        self,
        durations_N: Sequence[float] | np.ndarray,
        batch_size: int,
        seed: int,
        max_seconds: float | None = None,
        quadratic_seconds: float = QUADRATIC_SECONDS,
        groups_N: Sequence[int] | np.ndarray | None = None,
        by_group: bool = True,
    ) -> None:
        self.durations_N = np.asarray(durations_N, dtype=np.float64)
        if not len(self.durations_N):
            raise InputError("corpus.empty", "there is no utterance to make batches of")
        if batch_size < 1:
            raise InputError(
                "setting.range", f"batch_size must be at least 1, got {batch_size}", f"batch_size={batch_size}"
            )
        if max_seconds is not None and not max_seconds > 0:
            raise InputError(
                "setting.range", f"max_seconds must be over 0, got {max_seconds}", f"max_seconds={max_seconds}"
            )
        if not quadratic_seconds > 0:
            raise InputError(
                "setting.range",
                f"quadratic_seconds must be over 0, got {quadratic_seconds}",
                f"quadratic_seconds={quadratic_seconds}",
            )
        self.batch_size = batch_size
        self.seed = seed
        self.max_seconds = max_seconds
        self.quadratic_seconds = quadratic_seconds
        self.groups_N = None if groups_N is None else np.asarray(groups_N)
        self.by_group = by_group and groups_N is not None
        self.costs_N = self.durations_N + self.durations_N**2 / quadratic_seconds

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments except durations and groups, for a checkpoint."""
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "max_seconds": self.max_seconds,
            "quadratic_seconds": self.quadratic_seconds,
            "by_group": self.by_group,
        }

    def of_rows(self, rows: np.ndarray, settings: dict[str, Any] | None = None) -> "BatchPlan":
        """The plan for some utterances, with given settings or its own; rows in its batches index this subset."""
        groups_N = None if self.groups_N is None else self.groups_N[rows]
        return BatchPlan(self.durations_N[rows], groups_N=groups_N, **(settings or self.settings))

    def epoch(self, epoch: int, rank: int = 0, num_ranks: int = 1) -> Batches:
        """Batches of one rank, as row numbers of ``durations_N``.

        Raises:
            InputError: There are fewer utterances than ranks.
        """
        assert 0 <= rank < num_ranks, f"rank {rank} of {num_ranks}"
        if len(self.durations_N) < num_ranks:
            raise InputError(
                "corpus.few-utterances",
                f"{len(self.durations_N)} utterances cannot be shared by {num_ranks} processes; use fewer --devices",
                len(self.durations_N),
            )
        if self.by_group:
            return self._epoch_by_group(epoch, rank, num_ranks)
        rng = np.random.default_rng([self.seed, epoch])
        batches = [batch for pool in self._pools(rng) for batch in self._cut(pool)]
        batches = sorted(_divisible(batches, num_ranks), key=self.cost)
        steps = rng.permutation(len(batches) // num_ranks)
        if epoch == 0:
            steps = np.concatenate([[len(steps) - 1], steps[steps != len(steps) - 1]])
        return [batches[step * num_ranks + rank] for step in steps]

    def sorted(self) -> Batches:
        """All rows by length, costliest batch first, with minimal padding; for work outside training."""
        order_N = np.argsort(-self.durations_N, kind="stable")
        return sorted(self._cut(order_N), key=self.cost, reverse=True)

    def _epoch_by_group(self, epoch: int, rank: int, num_ranks: int) -> Batches:
        """Batches of each group, shuffled together; each group keeps its own order."""
        assert self.groups_N is not None
        batches: dict[int, Batches] = {}
        for group in np.unique(self.groups_N).tolist():
            rows = np.flatnonzero(self.groups_N == group)
            plan = self.of_rows(rows, {**self.settings, "by_group": False})
            batches[group] = [rows[batch].tolist() for batch in plan.epoch(epoch, rank, num_ranks)]
        order = np.repeat(list(batches), [len(own) for own in batches.values()])
        order = np.random.default_rng([self.seed, epoch, len(batches)]).permutation(order)
        left = {group: iter(own) for group, own in batches.items()}
        return [next(left[group]) for group in order.tolist()]

    def remaining(self, epoch: int, num_done: int, rank: int = 0, num_ranks: int = 1) -> Batches:
        """Batches left in an epoch after ``num_done`` batches of this rank."""
        return self.epoch(epoch, rank, num_ranks)[num_done:]

    def cost(self, batch: Sequence[int]) -> float:
        """Seconds of a batch with padding and penalty; limited by ``max_seconds``."""
        return len(batch) * float(self.costs_N[batch].max())

    def _pools(self, rng: np.random.Generator) -> list[np.ndarray]:
        """A random partition of all rows, each part sorted by length, longest first."""
        order_N = rng.permutation(len(self.durations_N))
        noise_N = rng.normal(0.0, LENGTH_JITTER, len(order_N))
        keys_N = -(np.log(self.durations_N[order_N]) + noise_N)
        num_pools = max(1, round(len(order_N) / (POOL_BATCHES * self._typical_size())))
        parts = np.array_split(np.arange(len(order_N)), num_pools)
        return [order_N[part][np.argsort(keys_N[part], kind="stable")] for part in parts]

    def _typical_size(self) -> float:
        by_cost = self.max_seconds / float(np.median(self.costs_N)) if self.max_seconds else self.batch_size
        return max(1.0, min(by_cost, self.batch_size))

    def _cut(self, pool: np.ndarray) -> Batches:
        """Cut a sorted pool into batches of maximum size; the last one may be smaller."""
        batches, start = [], 0
        costs = np.maximum.accumulate(self.costs_N[pool][::-1])[::-1]  # of the costliest from here on: jitter disorders
        while start < len(pool):
            size = self.batch_size
            if self.max_seconds:
                size = min(size, max(1, int(self.max_seconds / costs[start])))
            batches.append(pool[start : start + size].tolist())
            start += size
        return batches


def _divisible(batches: Batches, num_ranks: int) -> Batches:
    """Make the batch count divisible by `num_ranks`: split the largest; join single utterances in pairs."""
    batches = list(batches)
    while len(batches) % num_ranks and len(largest := max(batches, key=len)) > 1:
        index = batches.index(largest)
        middle = len(largest) // 2
        batches[index : index + 1] = [largest[:middle], largest[middle:]]
    num_joined = len(batches) % num_ranks  # only if every batch is one utterance
    pairs = [batches[-2 * index - 1] + batches[-2 * index - 2] for index in range(num_joined)]
    return pairs + batches[: len(batches) - 2 * num_joined]


def padding_share(durations_N: Sequence[float] | np.ndarray, batches: Batches) -> float:
    """Share of padding in the padded audio, 0 to 1."""
    durations = np.asarray(durations_N)
    padded = sum(len(batch) * float(durations[batch].max()) for batch in batches)
    return 1.0 - sum(float(durations[batch].sum()) for batch in batches) / padded
