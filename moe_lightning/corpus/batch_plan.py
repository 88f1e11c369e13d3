"""The order of training: which utterances share a batch, and which batch comes when.

An epoch's batches are a pure function of (durations, settings, seed, epoch): any number of workers, a
resumed run and every rank compute the same, and nothing has to be saved but how many batches are done.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from moe_lightning.errors import InputError

Batches: TypeAlias = list[list[int]]

POOL_BATCHES = 200
"""Batches that are sorted by length together: more means less padding, and less chance in who meets whom."""
LENGTH_JITTER = 0.02
"""Spread of the noise on log-lengths before sorting, so that a small corpus is not the same batches every epoch."""


class BatchPlan:
    """Batches of similar length, in a seeded order, the same number of them on every rank.

    Every utterance comes exactly once an epoch over all ranks. Where the batches do not divide by the
    ranks, some are split, and none is repeated. Batches that ranks work on at the same time are of
    neighbouring lengths, so that no rank waits long for another.

    Args:
        durations_N: Seconds of each utterance.
        batch_size: Utterances in a batch, at most.
        seed: With the epoch, all that the order depends on.
    """

    def __init__(self, durations_N: Sequence[float] | np.ndarray, batch_size: int, seed: int) -> None:
        self.durations_N = np.asarray(durations_N, dtype=np.float64)
        if not len(self.durations_N):
            raise InputError("there is no utterance to make batches of")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.seed = seed

    def epoch(self, epoch: int, rank: int = 0, num_ranks: int = 1) -> Batches:
        """Batches of one rank, as row numbers of ``durations_N``.

        Raises:
            InputError: There are fewer utterances than ranks.
        """
        assert 0 <= rank < num_ranks, f"rank {rank} of {num_ranks}"
        if len(self.durations_N) < num_ranks:
            raise InputError(f"{len(self.durations_N)} utterances cannot be shared by {num_ranks} processes")
        rng = np.random.default_rng([self.seed, epoch])
        batches = _divisible([batch for pool in self._pools(rng) for batch in self._cut(pool)], num_ranks)
        batches.sort(key=lambda batch: self.durations_N[batch[-1]])
        steps = rng.permutation(len(batches) // num_ranks)
        return [batches[step * num_ranks + rank] for step in steps]

    def remaining(self, epoch: int, num_done: int, rank: int = 0, num_ranks: int = 1) -> Batches:
        """What is left of an epoch of which ``num_done`` batches of this rank are done."""
        return self.epoch(epoch, rank, num_ranks)[num_done:]

    def _pools(self, rng: np.random.Generator) -> list[np.ndarray]:
        """A random division of all rows, each part sorted by length, short ones first."""
        order_N = rng.permutation(len(self.durations_N))
        noise_N = rng.normal(0.0, LENGTH_JITTER, len(order_N))
        keys_N = np.log(self.durations_N[order_N]) + noise_N
        num_pools = max(1, round(len(order_N) / (POOL_BATCHES * self.batch_size)))
        parts = np.array_split(np.arange(len(order_N)), num_pools)
        return [order_N[part][np.argsort(keys_N[part], kind="stable")] for part in parts]

    def _cut(self, pool: np.ndarray) -> Batches:
        return [pool[start : start + self.batch_size].tolist() for start in range(0, len(pool), self.batch_size)]


def _divisible(batches: Batches, num_ranks: int) -> Batches:
    """As many batches as `num_ranks` divides: the largest are split; single utterances are joined in pairs."""
    batches = list(batches)
    while len(batches) % num_ranks and len(largest := max(batches, key=len)) > 1:
        index = batches.index(largest)
        middle = len(largest) // 2
        batches[index : index + 1] = [largest[:middle], largest[middle:]]
    num_joined = len(batches) % num_ranks  # only when every batch is one utterance
    pairs = [batches[2 * index] + batches[2 * index + 1] for index in range(num_joined)]
    return pairs + batches[2 * num_joined :]


def padding_share(durations_N: Sequence[float] | np.ndarray, batches: Batches) -> float:
    """Part of the padded audio that is padding, 0 to 1."""
    durations = np.asarray(durations_N)
    padded = sum(len(batch) * float(durations[batch].max()) for batch in batches)
    return 1.0 - sum(float(durations[batch].sum()) for batch in batches) / padded
