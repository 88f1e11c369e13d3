"""Shares of the experts on the dev split, in TensorBoard."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from moe_lightning.models.routing import normalised_entropy


class ExpertUsage(Callback):
    """Logs each expert's share of utterances (by likeliest expert) and of gate weight.

    ``expert_usage/entropy`` is the entropy of the weight shares, divided by its maximum: 1 if all experts have equal
    shares, 0 if one takes all. Reads ``gate_BE`` from the output of `validation_step`. A warning names each expert
    with a weight share under ``dead_below``.

    Args:
        dead_below: Share of gate weight, 0 to 1.
    """

    def __init__(self, dead_below: float = 0.005):
        self.dead_below = dead_below
        self._sums_2E: Tensor | None = None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Add a batch's gates."""
        if trainer.sanity_checking:
            return
        gate_BE = outputs["gate_BE"].detach().float()
        counts_E = torch.bincount(gate_BE.argmax(dim=1), minlength=gate_BE.shape[1])
        sums_2E = torch.stack([counts_E.float(), gate_BE.sum(dim=0)])
        self._sums_2E = sums_2E if self._sums_2E is None else self._sums_2E + sums_2E

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares of the whole split, over all ranks."""
        if trainer.sanity_checking or self._sums_2E is None:
            return
        sums_2E = trainer.strategy.reduce(self._sums_2E, reduce_op="sum")
        self._sums_2E = None
        assert isinstance(sums_2E, Tensor)
        shares_2E = (sums_2E / sums_2E.sum(dim=1, keepdim=True)).tolist()
        for name, shares in zip(("utterances", "weight"), shares_2E, strict=True):
            for expert, share in enumerate(shares):
                _log(trainer, f"share_of_{name}/expert_{expert}", share)
        _log(trainer, "expert_usage/entropy", normalised_entropy(sums_2E[1:] / sums_2E[1].sum()).item())
        dead = [expert for expert, share in enumerate(shares_2E[1]) if share < self.dead_below]
        if dead:
            rank_zero_warn(f"experts {dead} get less than {self.dead_below:.1%} of the gate's weight on the dev split")


def _log(trainer: Trainer, name: str, value: float) -> None:
    if trainer.logger is not None:
        trainer.logger.log_metrics({name: value}, step=trainer.global_step)
