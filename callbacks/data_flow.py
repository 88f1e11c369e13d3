"""Padding and waiting time of the training loader, in TensorBoard."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class DataFlow(Callback):
    """Logs ``data/padding_share`` and ``data/waiting_share``, each over the steps since the last log.

    The padding share is the part of a batch's samples without audio; the waiting share is the part of the time
    between steps. Reads ``waveforms_BL`` and ``num_samples_B`` of the batch.

    Args:
        every_n_steps: Steps of the trainer between two values.
    """

    def __init__(self, every_n_steps: int = 50):
        self.every_n_steps = every_n_steps
        self._since = 0.0
        self._restart()

    def _restart(self) -> None:
        self._num_samples = self._num_real = 0
        self._waited = self._worked = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()  # an epoch resumed in the middle has no epoch start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count a batch, and the time since the previous step."""
        now = time.perf_counter()
        self._waited += now - self._since
        self._since = now
        self._num_samples += batch.waveforms_BL.numel()
        self._num_real += int(batch.num_samples_B.sum())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every ``every_n_steps`` steps."""
        now = time.perf_counter()
        self._worked += now - self._since
        self._since = now
        if trainer.logger is not None and (batch_idx + 1) % self.every_n_steps == 0:
            shares = {
                "data/padding_share": 1 - self._num_real / self._num_samples,
                "data/waiting_share": self._waited / (self._waited + self._worked),
            }
            trainer.logger.log_metrics(shares, step=trainer.global_step)
            self._restart()
