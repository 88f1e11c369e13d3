"""Loaders with an order of their own: Lightning would rebuild a DataLoader, or replay its order on resume."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypedDict

import numpy as np
from torch.utils.data import DataLoader, Dataset

from moe_lightning.data.batch_plan import Batches, BatchPlan
from moe_lightning.data.batches import AudioDataset
from moe_lightning.errors import InputError
from moe_lightning.system.signals import serve_a_while


class PartState(TypedDict):
    """Part of an epoch, planned with the same settings."""

    settings: dict[str, Any]
    """Settings of the `BatchPlan`."""
    num_ranks: int
    num_done: int
    """Batches trained on by each rank."""


class LoaderState(TypedDict):
    """Training position; the order is a function of seed and epoch and need not be saved."""

    epoch: int
    parts: list[PartState]
    """Several after a resume with other settings within the epoch."""


class FixedLoader:
    """The same batches at each ``iter()``: for scoring or embedding a split."""

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
        return _loaded(self.dataset, self.batches, self.collate, self.num_workers)


class ResumableLoader:
    """Batches of one epoch after another; resumes exactly at the next utterance after any stop.

    Batches are counted as they are yielded. Each ``iter()`` starts at the training position: at the next batch of an
    unfinished epoch, or at the next epoch. Lightning's own restart relies on this: it counts batches, but leaves
    skipping to the loader. Epochs may differ in length, so the Trainer must ask for the length before each
    (``reload_dataloaders_every_n_epochs=1``). A state from a run with another batch size or number of ranks also works:
    the epoch's finished utterances are left out, the rest is planned anew.
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
        self._start_epoch(0)

    def __len__(self) -> int:
        """Batches in the epoch of the next batch, including batches finished with other settings."""
        self._start_next_epoch_if_done()
        return self._num_before + len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        self._start_next_epoch_if_done()
        if isinstance(self.dataset, AudioDataset):
            self.dataset.epoch = self.epoch  # before workers copy it: augmentation depends on it
        left = self.batches[self.num_done :]
        for batch in _loaded(self.dataset, left, self.collate, self.num_workers):
            self.num_done += 1
            yield batch

    def state_dict(self) -> LoaderState:
        """Training position, for a checkpoint."""
        return {"epoch": self.epoch, "parts": [*self._parts_before, self._part(self.num_done)]}

    def load_state_dict(self, state: LoaderState) -> None:
        """Resume at the position of a `state_dict`."""
        *before, last = state["parts"]
        is_same_plan = last == self._part(last["num_done"])
        self._start_epoch(state["epoch"], before if is_same_plan else [*before, last])
        self.num_done = last["num_done"] if is_same_plan else 0

    def _start_next_epoch_if_done(self) -> None:
        if self.num_done >= len(self.batches):
            self._start_epoch(self.epoch + 1)

    def _part(self, num_done: int) -> PartState:
        return {"settings": self.plan.settings, "num_ranks": self.num_ranks, "num_done": num_done}

    def _start_epoch(self, epoch: int, parts_before: Sequence[PartState] = ()) -> None:
        self.epoch, self.num_done = epoch, 0
        self._parts_before = list(parts_before)
        self._num_before = sum(part["num_done"] for part in parts_before)
        rows = np.arange(len(self.plan.durations_N))
        for part in parts_before:
            rows = _rows_left(self.plan, rows, epoch, part)
        if parts_before and len(rows) < self.num_ranks:  # a few utterances less, rather than some twice
            self.batches: Batches = []
            return
        plan = self.plan.of_rows(rows)
        self.batches = [rows[batch].tolist() for batch in plan.epoch(epoch, self.rank, self.num_ranks)]


def _rows_left(whole: BatchPlan, rows: np.ndarray, epoch: int, part: PartState) -> np.ndarray:
    """Rows not yet trained on in a part of an epoch."""
    if not part["num_done"]:
        return rows
    is_left = np.ones(len(rows), dtype=bool)
    plan = whole.of_rows(rows, part["settings"])
    for rank in range(part["num_ranks"]):
        for batch in plan.epoch(epoch, rank, part["num_ranks"])[: part["num_done"]]:
            is_left[batch] = False
    return rows[is_left]


def _loaded(
    dataset: Dataset[Any], batches: Batches, collate: Callable[[list[Any]], Any], num_workers: int
) -> Iterator[Any]:
    """Batches of a DataLoader.

    Raises:
        InputError: As from the dataset. torch would make another error of it on the way out of a worker process.
    """
    loader: DataLoader[Any] = DataLoader(
        _Handing(dataset),
        batch_sampler=batches,
        collate_fn=partial(_collated, collate),
        num_workers=num_workers,
        worker_init_fn=serve_a_while,
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class _Handing(Dataset[Any]):
    """A dataset that hands an InputError over in place of its item."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, row: int) -> Any:
        try:
            return self.dataset[row]
        except InputError as error:
            return error


def _collated(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """A batch, or the first InputError among its items."""
    return next((item for item in items if isinstance(item, InputError)), None) or collate(items)
