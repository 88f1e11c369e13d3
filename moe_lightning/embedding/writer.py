"""StoreWriter: writes the shards of one rank during the embedding."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from moe_lightning.data.batches import EmbeddedBatch
from moe_lightning.data.shards import ShardIndex, write_shard
from moe_lightning.errors import InputError
from moe_lightning.system.locks import LockWatch
from moe_lightning.system.signals import STOP, Stopped
from moe_lightning.training.stopping import end_ranks

SHARD_BYTES = 512 * 2**20
"""Size limit of a shard: the memory that a rank needs for it."""
SHARD_SECONDS = 600.0
"""Age limit of a shard: the most work that a kill can undo."""


@dataclass(frozen=True)
class ShardSettings:
    """Contents and maximum size of a shard."""

    precision: str = "32-true"
    frames_dtype: str | None = None
    """``float16`` or ``float32``; None keeps no frames."""
    num_utterances: int = 4096
    """Maximum number of utterances per shard."""


class StoreWriter(Callback):
    """Collects embeddings and writes each full shard."""

    def __init__(self, folder: Path, settings: ShardSettings):
        self.folder = folder
        self.settings = settings
        self.watch: LockWatch | None = None
        """For ranks without the lock; the first rank holds it."""
        self._number, self._step = 0, 1
        self._start_shard()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Number the shards so that no two ranks, and no two runs, write the same file."""
        self._number = trainer.datamodule.progress.num_shards + trainer.global_rank  # type: ignore[attr-defined]
        self._step = trainer.world_size
        self.watch = None if trainer.is_global_zero else LockWatch(self.folder)
        STOP.listen()  # replaces Lightning's handler, with messages between ranks in the middle of a step

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Add a batch; after a signal, end here."""
        self.add(batch.ids, outputs)
        STOP.end()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep finished work, unless the disk failed. If we are to stop, the other ranks stop too and keep theirs."""
        if not isinstance(exception, OSError):
            self.flush()
        if isinstance(exception, Stopped):
            end_ranks(trainer)

    def add(self, ids: Sequence[str], embedded: EmbeddedBatch) -> None:
        """Collect a batch; write the shard if it is full.

        Raises:
            InputError: A value is not finite: the precision cannot hold it.
            OSError: The shard cannot be written.
        """
        embeddings_BD = embedded.embeddings_BD.float().cpu().numpy()
        frames = self._real_frames(embedded) if self.settings.frames_dtype else []
        self._check_finite(ids, embeddings_BD, frames)
        self._ids += ids
        self._embeddings.append(embeddings_BD)
        self._frames += frames
        if self._is_full():
            self.flush()

    def flush(self) -> None:
        """Write the collected embeddings, if there are any.

        Raises:
            InputError: The folder now belongs to another run; the collected embeddings are dropped.
            OSError: The shard cannot be written.
        """
        if not self._ids:
            return
        if self.watch:
            self._leave_to_another_run(self.watch)
        has_frames = self.settings.frames_dtype is not None
        num_frames = [len(frames_TD) for frames_TD in self._frames] if has_frames else None
        index = ShardIndex(self._number, self._ids, self.settings.precision, num_frames)
        write_shard(self.folder, index, np.concatenate(self._embeddings), self._frames if has_frames else None)
        self._number += self._step
        self._start_shard()

    def _leave_to_another_run(self, watch: LockWatch) -> None:
        try:
            watch.check()
        except InputError:
            self._start_shard()  # or the end of the run would write it after all
            raise

    def _real_frames(self, embedded: EmbeddedBatch) -> list[np.ndarray]:
        frames_BTD = embedded.frames_BTD.float().cpu().numpy()
        with np.errstate(over="ignore"):  # an infinity is refused below
            return [
                frames_TD[:num_frames].astype(self.settings.frames_dtype)
                for frames_TD, num_frames in zip(frames_BTD, embedded.num_frames_B.tolist(), strict=True)
            ]

    def _check_finite(self, ids: Sequence[str], embeddings_BD: np.ndarray, frames: Sequence[np.ndarray]) -> None:
        for id_, embedding_D in zip(ids, embeddings_BD, strict=True):
            if not np.isfinite(embedding_D).all():
                raise InputError(
                    "embeddings.not-finite",
                    f"the embedding of {id_!r} is not finite with --precision {self.settings.precision};"
                    " use bf16-mixed or 32-true",
                    id_,
                )
        for id_, frames_TD in zip(ids, frames, strict=False):
            if not np.isfinite(frames_TD).all():
                raise InputError(
                    "embeddings.not-finite",
                    f"{self.settings.frames_dtype} cannot hold the frames of {id_!r}; use float32",
                    id_,
                )

    def _start_shard(self) -> None:
        self._ids: list[str] = []
        self._embeddings: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []
        self._started = time.monotonic()

    def _is_full(self) -> bool:
        num_bytes = sum(array.nbytes for arrays in (self._embeddings, self._frames) for array in arrays)
        return (
            len(self._ids) >= self.settings.num_utterances
            or num_bytes >= SHARD_BYTES
            or time.monotonic() - self._started >= SHARD_SECONDS
        )
