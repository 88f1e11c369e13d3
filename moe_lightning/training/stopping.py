"""Stop a training by a signal: all ranks after the same step, with a checkpoint."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.utilities import rank_zero_info
from torch import distributed as dist

from moe_lightning.errors import InputError, printable
from moe_lightning.models.global_batch import largest_over_ranks
from moe_lightning.system.signals import STOP, Stopped

_LAST_WORDS = 30.0
"""Seconds for the other ranks to end."""


class StopBySignal(Checkpoint):  # Lightning calls Checkpoint callbacks last at the end of an epoch
    """Ends the training, with a checkpoint, after the optimizer step in which any rank received a signal.

    It runs after all other callbacks, so that they have seen the batch, and the scores of the epoch.

    Args:
        file: Checkpoint for a resume by the same command; None keeps nothing.
        max_seconds: Limit of training time, with an end as by SIGTERM; None for no limit.
    """

    def __init__(self, file: Path | None, max_seconds: float | None = None):
        self.file = file
        self.max_seconds = max_seconds
        self._started = time.monotonic()
        self._loops_before_validation: dict[str, Any] | None = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        STOP.listen()  # replaces Lightning's handler: its ranks exchange the signal within a step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        STOP.listen()
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stop between two optimizer steps only: no accumulated gradients are lost."""
        if is_within_step(trainer):
            return
        self._loops_before_validation = _loops(trainer) if trainer.is_last_batch else None
        self._end_at_signal(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stop a long validation on a single rank; a resume repeats it from its weights. Several ranks end it first."""
        if STOP.number and trainer.world_size == 1:
            if self._loops_before_validation is not None and not trainer.sanity_checking:
                self._save(trainer)
            raise Stopped(STOP.number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch: if it is the last one, the signal would be lost."""
        self._loops_before_validation = None
        self._end_at_signal(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Within a validation, record the position before it."""
        if trainer.validating and self._loops_before_validation is not None:
            checkpoint["loops"] = self._loops_before_validation

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped):
            end_ranks(trainer)

    def _end_at_signal(self, trainer: Trainer) -> None:
        is_late = self.max_seconds is not None and time.monotonic() - self._started >= self.max_seconds
        number = STOP.number or (signal.SIGTERM if is_late else 0)
        if number := largest_over_ranks(number, trainer.strategy.root_device):
            self._save(trainer)
            stopped = Stopped(number)
            if is_late and STOP.number is None:
                rank_zero_info("trainer.max_time is over")
                stopped.is_told = True
            raise stopped

    def _save(self, trainer: Trainer) -> None:
        if self.file is not None:
            trainer.save_checkpoint(self.file)


def taken_time_limit(trainer: Trainer) -> float | None:
    """Remove ``trainer.max_time``, in seconds, for `StopBySignal`: Lightning's Timer counts half an epoch as one."""
    timers = [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]
    trainer.callbacks = [one for one in trainer.callbacks if one not in timers]  # type: ignore[attr-defined]
    limits = [limit for timer in timers if (limit := timer.time_remaining()) is not None]
    return min(limits, default=None)


@contextmanager
def quiet_rank(trainer: Trainer) -> Iterator[None]:
    """Let only the first rank report a stop: Lightning kills it if another rank's exit code is not 0."""
    try:
        yield
    except Stopped as stopped:
        if trainer.is_global_zero:
            raise
        raise SystemExit(0) from stopped


@contextmanager
def naming_monitor(trainer: Trainer) -> Iterator[None]:
    """Context of a training.

    Raises:
        InputError: Early stopping monitors a score that the training does not log.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("Early stopping conditioned on metric"):
            raise
        unknown = {one.monitor for one in trainer.early_stopping_callbacks} - {*trainer.callback_metrics}
        wanted, logged = (", ".join(sorted(map(str, names))) for names in (unknown, trainer.callback_metrics))
        raise InputError(
            "setting.choice",
            f"early_stopping.monitor is {wanted}, which the training does not log; take one of {logged}",
            f"early_stopping.monitor={wanted}",
        ) from error


@contextmanager
def telling_of_lost_ranks(trainer: Trainer) -> Iterator[None]:
    """End in one line, with exit code 1, if another rank is gone: the fault is there."""
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size == 1 or not _is_of_ranks(error):
            raise
        print(
            f"error: another rank has ended, or cannot be reached ({printable(error)}); the same command goes on from"
            " what was finished last",
            file=sys.stderr,
        )
        raise SystemExit(1) from error


def _is_of_ranks(error: RuntimeError) -> bool:
    """True if ranks can no longer communicate; gloo has no error class for it."""
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Connection refused",
        "gloo",
        "NCCL",
    )
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def is_within_step(trainer: Trainer) -> bool:
    """True if accumulated gradients wait for more batches: a checkpoint would lose them."""
    return trainer.fit_loop._should_accumulate()


def end_ranks(trainer: Trainer) -> None:
    """Terminate the ranks that this one has started, and wait for them."""
    processes: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)


def _loops(trainer: Trainer) -> dict[str, Any]:
    return trainer._checkpoint_connector._get_loops_state_dict()
