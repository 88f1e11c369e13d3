"""Cost of the gate's errors on the dev split, in TensorBoard."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.errors import InputError


class GateRegret(Callback):
    """Logs the loss of the chosen expert beside the best expert's, known only from the transcript.

    ``regret/chosen_loss`` and ``regret/best_loss`` are in nats per token, each expert alone, means over utterances;
    ``regret/regret`` is their difference, the possible gain of a better gate; ``regret/chosen_is_best`` is the share
    of utterances sent to their best expert. Every expert runs on every utterance, so the callback takes only some
    batches, spread evenly over the dev split (its batches are sorted by length).

    Reads ``gate_BE`` from the output of `validation_step`; the model must have ``expert_losses(batch)``.

    Args:
        every_n_epochs: Epochs between two measurements.
        max_batches: Batches measured on each device.

    Raises:
        InputError: An argument is not positive.
    """

    def __init__(self, every_n_epochs: int = 1, max_batches: int = 4):
        if every_n_epochs < 1 or max_batches < 1:
            raise InputError(
                "setting.range",
                f"every_n_epochs and max_batches must be at least 1, got {every_n_epochs} and {max_batches};"
                " leave the callback out to save its time",
            )
        self.every_n_epochs = every_n_epochs
        self.max_batches = max_batches
        self._sums_4: Tensor | None = None

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: SpeechBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Run all experts on some of the batches."""
        if trainer.sanity_checking or not self._is_looked_at(trainer, batch_idx):
            return
        losses_BE: Tensor = pl_module.expert_losses(batch)  # type: ignore[operator]
        chosen_B1 = outputs["gate_BE"].argmax(dim=1, keepdim=True)
        chosen_loss_B, best_loss_B = losses_BE.gather(1, chosen_B1)[:, 0], losses_BE.min(dim=1).values
        is_best_B = chosen_loss_B <= best_loss_B
        sums_4 = torch.stack(
            [chosen_loss_B.sum(), best_loss_B.sum(), is_best_B.sum(), is_best_B.new_ones(len(batch.ids)).sum()]
        )
        self._sums_4 = sums_4 if self._sums_4 is None else self._sums_4 + sums_4

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over all ranks."""
        if trainer.sanity_checking or trainer.current_epoch % self.every_n_epochs:
            return
        own_4 = torch.zeros(4, device=pl_module.device) if self._sums_4 is None else self._sums_4
        sums_4 = trainer.strategy.reduce(own_4, reduce_op="sum")
        self._sums_4 = None
        assert isinstance(sums_4, Tensor)
        chosen, best, is_best, count = sums_4.tolist()
        if trainer.logger is not None and count:
            values = {"chosen_loss": chosen, "best_loss": best, "regret": chosen - best, "chosen_is_best": is_best}
            means = {f"regret/{name}": value / count for name, value in values.items()}
            trainer.logger.log_metrics(means, step=trainer.global_step)

    def _is_looked_at(self, trainer: Trainer, batch_idx: int) -> bool:
        num_batches = trainer.num_val_batches[0]
        stride = max(1, math.ceil(num_batches / self.max_batches))
        return trainer.current_epoch % self.every_n_epochs == 0 and batch_idx % stride == 0
