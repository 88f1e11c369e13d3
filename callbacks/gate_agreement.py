"""Agreement of the gate with the soft labels on the dev split, in TensorBoard."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from moe_lightning.data.batches import SpeechBatch


class GateAgreement(Callback):
    """Logs ``gate/same_expert`` and ``gate/overlap`` with the soft labels of the dev split.

    The first is the share of utterances with the same likeliest expert in gate and soft label. The second is the
    overlap of the two distributions, ``sum_e min(gate_e, label_e)``: 1 if they are equal, 0 if they share no expert.
    Reads ``gate_BE`` from the output of `validation_step`, after the routing.
    """

    def __init__(self) -> None:
        self._sums_3: Tensor | None = None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: SpeechBatch, *args: Any, **kwargs: Any
    ) -> None:
        """Add a batch."""
        if trainer.sanity_checking:
            return
        gate_BE, labels_BE = outputs["gate_BE"].detach().float(), batch.soft_labels_BE.float()
        is_same_B = gate_BE.argmax(dim=1) == labels_BE.argmax(dim=1)
        overlap = torch.minimum(gate_BE, labels_BE).sum()
        sums_3 = torch.stack([is_same_B.sum().float(), overlap, overlap.new_tensor(len(gate_BE))])
        self._sums_3 = sums_3 if self._sums_3 is None else self._sums_3 + sums_3

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the split, over all ranks."""
        if trainer.sanity_checking or self._sums_3 is None:
            return
        sums_3 = trainer.strategy.reduce(self._sums_3, reduce_op="sum")
        self._sums_3 = None
        assert isinstance(sums_3, Tensor)
        same, overlap, count = sums_3.tolist()
        if trainer.logger is not None:
            values = {"gate/same_expert": same / count, "gate/overlap": overlap / count}
            trainer.logger.log_metrics(values, step=trainer.global_step)
