"""Skipping of batches with a loss or gradient that is not finite.

One NaN in one utterance would be in every weight after the step. All ranks skip such a batch together, count it
and name it; too many of them end the training, for then the training itself has diverged.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moe_lightning.errors import InputError
from moe_lightning.models.global_batch import sum_over_ranks


class SkippedBatches:
    """Counter of skipped batches, with a limit.

    Args:
        limit: Batches that the whole training may skip.

    Raises:
        InputError: The limit is negative.
    """

    def __init__(self, limit: int):
        if limit < 0:
            raise InputError(
                "setting.range", f"max_skipped_batches must be at least 0, got {limit}", f"max_skipped_batches={limit}"
            )
        self.limit = limit
        self.count = 0
        self._ids_since_step: list[str] = []

    def is_usable(self, ids: Sequence[str], loss: Tensor, losses_B: Tensor | None = None) -> bool:
        """True if a batch's loss is finite on every rank; all ranks must ask, and get the same answer.

        Args:
            ids: Utterances on this rank.
            losses_B: Losses per utterance, if known, so that only those that are not finite are named.

        Raises:
            InputError: The limit is exceeded.
        """
        is_finite = math.isfinite(loss.item())
        if _holds_on_all_ranks(is_finite, loss.device):
            self._ids_since_step += ids
            return True
        self._count("loss", [] if is_finite else _not_finite(ids, losses_B))
        return False

    def check_gradient(self, optimizer: Optimizer, scale: float | None = None) -> None:
        """Keep the optimizer from a step without a usable batch, or with a gradient that is not finite.

        Args:
            scale: From a gradient scaler: it skips such steps itself and halves its scale. Over 1 that is its
                usual search for a scale, and not counted. At 1 or below, the gradients overflow unscaled.

        Raises:
            InputError: The limit is exceeded.
        """
        ids, self._ids_since_step = self._ids_since_step, []
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not ids:
            _drop_gradients(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients or (scale is not None and scale > 1):
            return
        is_finite = math.isfinite(nn.utils.get_total_norm(gradients).item())
        if not _holds_on_all_ranks(is_finite, gradients[0].device):
            if scale is None:  # a scaler must see them
                _drop_gradients(parameters)
            self._count("gradient" if scale is None else f"gradient, scaled by {scale:g},", ids)

    def state(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"count": self.count}

    def load_state(self, state: dict[str, int]) -> None:
        self.count = state.get("count", 0)

    def _count(self, what: str, ids: Sequence[str]) -> None:
        self.count += 1
        if ids:
            names = ", ".join(map(repr, ids))
            print(f"warning: a batch is skipped, its {what} is not finite: {names}", file=sys.stderr, flush=True)
        if self.count > self.limit:
            raise InputError(
                "training.not-finite",
                f"{self.count} batches had a loss or gradient that is not finite, more than max_skipped_batches"
                f" {self.limit}; look at the utterances named above, lower the learning rate, or train in another"
                " precision (bf16-mixed, 32-true)",
                self.count,
            )


def nothing_to_learn(module: nn.Module) -> Tensor:
    """A zero loss with a zero gradient for every trained parameter: the ranks still meet in the backward pass."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return 0.0 * torch.stack([parameter.flatten()[0].float() for parameter in trained]).sum()


def gradient_scale(trainer: Any) -> float | None:
    """Scale of the gradients in 16-mixed; None in other precisions."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())


def check_finite(module: nn.Module, stage: str) -> None:
    """Raise an InputError if trained weights are not finite: the next stages would learn nothing from them."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise InputError(
                "training.not-finite",
                f"the training of the stage {stage} has not converged: {name} is not finite; lower the learning rate,"
                " or train in another precision (bf16-mixed, 32-true), in another --run-dir",
                name,
            )


def _holds_on_all_ranks(claim: bool, device: torch.device) -> bool:
    return sum_over_ranks(torch.tensor(0.0 if claim else 1.0, device=device)).item() == 0


def _not_finite(ids: Sequence[str], losses_B: Tensor | None) -> list[str]:
    if losses_B is None:
        return list(ids)
    is_finite_B = torch.isfinite(losses_B).tolist()
    return [id_ for id_, is_finite in zip(ids, is_finite_B, strict=True) if not is_finite] or list(ids)


def _drop_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Remove gradients: optimizers skip such parameters, so neither momentum nor weight decay moves them."""
    for parameter in parameters:
        parameter.grad = None
