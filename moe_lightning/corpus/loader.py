"""Loaders that Lightning leaves alone: it would rebuild a DataLoader, or replay its order on a resume."""

from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import numpy as np
from torch.utils.data import DataLoader, Dataset

from moe_lightning.corpus.batch_plan import Batches, BatchPlan


class LoaderState(TypedDict):
    """Where training stands; the order itself need not be saved, it is a function of seed and epoch."""

    epoch: int
    num_done: int
    """Batches of this epoch that each rank has trained on."""
    batch_size: int
    num_ranks: int


class FixedLoader:
    """The same batches at each ``iter()``: for splits that are scored or embedded."""

    def __init__(
        self, dataset: Dataset[Any], batches: Batches, collate: Callable[[list[Any]], Any], num_workers: int = 0
    ):
        self.dataset = dataset
        self.batches = batches
        self.collate = collate
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(_data_loader(self.dataset, self.batches, self.collate, self.num_workers))


class ResumableLoader:
    """Batches of one epoch after another; goes on with exactly the next utterance after any stop.

    Batches are counted as they are handed out. Each ``iter()`` goes on where training stands: at the next
    batch of a half-done epoch, or at the next epoch. Lightning's own restart relies on this: it counts
    batches, but leaves finding them to the loader. A state from a run with another batch size or number
    of ranks is honoured: what was trained on in the epoch is left out, the rest is planned anew.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        plan: BatchPlan,
        collate: Callable[[list[Any]], Any],
        num_workers: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ):
        self.dataset = dataset
        self.plan = plan
        self.collate = collate
        self.num_workers = num_workers
        self.rank = rank
        self.num_ranks = num_ranks
        self._carried: LoaderState | None = None
        self._start_epoch(0)

    def __len__(self) -> int:
        """Batches of the epoch that the next one belongs to."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        if self.num_done >= len(self.batches):
            self._start_epoch(self.epoch + 1)
        left = self.batches[self.num_done :]
        for batch in _data_loader(self.dataset, left, self.collate, self.num_workers):
            self.num_done += 1
            yield batch

    def state_dict(self) -> LoaderState:
        """Where training stands, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "num_done": self.num_done,
            "batch_size": self.plan.batch_size,
            "num_ranks": self.num_ranks,
        }

    def load_state_dict(self, state: LoaderState) -> None:
        """Go on where `state_dict` was taken."""
        is_same_plan = state["batch_size"] == self.plan.batch_size and state["num_ranks"] == self.num_ranks
        self._carried = None if is_same_plan else state
        self._start_epoch(state["epoch"])
        self.num_done = state["num_done"]

    def _start_epoch(self, epoch: int) -> None:
        self.epoch, self.num_done = epoch, 0
        if self._carried and self._carried["epoch"] == epoch:
            self.batches = self._replanned(self._carried)
        else:
            self.batches = self.plan.epoch(epoch, self.rank, self.num_ranks)

    def _replanned(self, state: LoaderState) -> Batches:
        """Empty places for the batches that are done, then what they left, in batches of the new plan."""
        durations_N = self.plan.durations_N
        old_plan = BatchPlan(durations_N, state["batch_size"], self.plan.seed)
        is_left_N = np.ones(len(durations_N), dtype=bool)
        for rank in range(state["num_ranks"]):
            for batch in old_plan.epoch(state["epoch"], rank, state["num_ranks"])[: state["num_done"]]:
                is_left_N[batch] = False
        rows = np.flatnonzero(is_left_N)
        done: Batches = [[] for _ in range(state["num_done"])]
        if not len(rows):
            return done
        rest = BatchPlan(durations_N[rows], self.plan.batch_size, self.plan.seed)
        left = rest.epoch(state["epoch"], self.rank, self.num_ranks)
        return done + [rows[batch].tolist() for batch in left]


def _data_loader(
    dataset: Dataset[Any], batches: Batches, collate: Callable[[list[Any]], Any], num_workers: int
) -> DataLoader[Any]:
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=num_workers)
