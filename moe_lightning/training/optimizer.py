"""Optimizers and learning-rate schedules: AdamW by expert, and the warm-up."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from moe_lightning.errors import InputError

FEWEST_POINTS = 10
"""Points of a training curve."""
Schedule = Literal["constant", "linear", "cosine"]


def adamw(parameters: Any) -> Optimizer:
    """The guide's optimizer."""
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)


def schedule_factor(step: int, share_done: float, num_warmup_steps: int, schedule: Schedule) -> float:
    """Factor on the peak learning rate, 0 to 1: a linear warm-up times the decay.

    Args:
        step: Optimizer steps done.
        share_done: Finished share of the whole training, 0 to 1. Unlike a number of steps it keeps its meaning
            when a training continues with other batch sizes or more devices.
    """
    warmup = min(1.0, (step + 1) / (num_warmup_steps + 1))
    if schedule == "constant":
        return warmup
    return warmup * (1.0 - share_done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share_done)))


def scheduled(optimizer: Optimizer, trainer: Trainer, num_warmup_steps: int, schedule: Schedule) -> dict[str, Any]:
    """The optimizer with its schedule, as a result of `LightningModule.configure_optimizers`."""

    def factor(step: int) -> float:
        return schedule_factor(step, share_done(trainer), num_warmup_steps, schedule)

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def log_often_enough(trainer: Any) -> None:
    """Log a short training more often than configured, so that its curves have at least ten points."""
    num_batches = trainer.num_training_batches * max(1, trainer.max_epochs or 1)
    if trainer.max_steps > 0:
        num_batches = min(num_batches, trainer.max_steps * trainer.accumulate_grad_batches)
    if 0 < num_batches < math.inf and trainer.log_every_n_steps:
        num_steps = int(num_batches) // trainer.accumulate_grad_batches
        trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, num_steps // FEWEST_POINTS))


def share_done(trainer: Trainer) -> float:
    """Finished share of a training, 0 to 1: by epochs and batches, or by steps if they end it."""
    if trainer.max_steps > 0:
        return min(1.0, trainer.global_step / trainer.max_steps)
    if not trainer.max_epochs or trainer.max_epochs < 0 or not 0 < trainer.num_training_batches < math.inf:
        return 0.0
    batches_done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    epochs_done = trainer.current_epoch + min(1.0, batches_done / trainer.num_training_batches)
    return min(1.0, epochs_done / trainer.max_epochs)


class _Block(NamedTuple):
    """The same rows of equally shaped parameters: those of U experts, or rows of no expert (U is 1)."""

    parameters: list[nn.Parameter]
    """P of them."""
    rows: slice
    num_units: int

    @property
    def is_of_experts(self) -> bool:
        return self.rows.stop is not None

    def view(self, tensor: Tensor) -> Tensor:
        """(U, N): one row per expert."""
        return (tensor[self.rows] if tensor.ndim else tensor).view(self.num_units, -1)

    def gradients(self) -> list[Tensor]:
        return [self.view(one.grad if one.grad is not None else torch.zeros_like(one)) for one in self.parameters]


class ExpertAdamW(Optimizer):
    """AdamW over parameter groups with rows of experts.

    A group with the key ``rank`` holds stacked deltas: ``rank`` rows per expert, then rows of the shared
    expert, updated in every step. A group without it is trained as by AdamW; without any gradient it stays.

    Args:
        lr: Learning rate.
        betas: Decay of the first and second moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled; for updated experts only.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(
                "setting.range",
                "lr, eps and weight_decay must be at least 0 and betas in [0, 1), got"
                f" {lr}, {eps}, {weight_decay} and {tuple(betas)}",
                "lr, eps, weight_decay, betas",
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every expert with a gradient, and all else."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            blocks = list(_blocks(group))
            is_active = {
                kind: torch.stack([_has_gradient(block) for block in blocks if block.is_of_experts == kind]).any(dim=0)
                for kind in {block.is_of_experts for block in blocks}
            }
            if group.get("frozen") and True in is_active:
                is_active[True] &= ~torch.tensor(group["frozen"], device=is_active[True].device)
            active = {kind: _chosen(mask_U) for kind, mask_U in is_active.items()}
            for block in blocks:
                self._update(group, block, active[block.is_of_experts])
        return loss

    @torch.no_grad()
    def clip_experts(self, max_norm: float) -> Tensor:
        """Scale each expert's gradient to a norm of at most ``max_norm``, independent of the others.

        Returns:
            Norms before the clipping: each expert's, then one for the other rows of each group.
        """
        norms = []
        for group in self.param_groups:
            blocks = list(_blocks(group))
            for kind in sorted({block.is_of_experts for block in blocks}, reverse=True):
                own = [block for block in blocks if block.is_of_experts == kind]
                norm_U = torch.stack([one.norm(dim=1) for block in own for one in block.gradients()]).norm(dim=0)
                factor_U = (max_norm / (norm_U + 1e-6)).clamp(max=1.0)
                large = _chosen(~(factor_U >= 1))  # NaN is large too
                for gradient_UN in (one for block in own for one in block.gradients()):
                    gradient_UN[large] *= factor_U[large][:, None]
                norms.append(norm_U)
        return torch.cat(norms)

    def freeze(self, is_frozen_E: Tensor) -> None:
        """Exclude these experts from updates, whatever their gradients; one boolean per expert."""
        for group in self.param_groups:
            for block in _blocks(group):
                if block.is_of_experts:
                    group["frozen"] = is_frozen_E[: block.num_units].tolist()

    def _update(self, group: dict[str, Any], block: _Block, active: Tensor | slice) -> None:
        """Update the block's active experts: gather parameters and moments, and write them back."""
        if isinstance(active, Tensor) and not len(active):
            return
        step_U, mean_PUN, square_PUN = self._state(block)
        beta1, beta2 = group["betas"]
        gradients_PAN = torch.stack([gradient_UN[active] for gradient_UN in block.gradients()])
        step_U[active] += 1
        step_A1 = step_U[active][:, None]
        mean_PAN = mean_PUN[:, active].lerp_(gradients_PAN, 1 - beta1)
        square_PAN = square_PUN[:, active].mul_(beta2).addcmul_(gradients_PAN, gradients_PAN, value=1 - beta2)
        if isinstance(active, Tensor):  # a slice gives views, already updated in place
            mean_PUN[:, active], square_PUN[:, active] = mean_PAN, square_PAN
        root_PAN = (square_PAN / (1 - beta2**step_A1)).sqrt_().add_(group["eps"])
        change_PAN = (mean_PAN / root_PAN).mul_(group["lr"] / (1 - beta1**step_A1))
        for parameter, change_AN in zip(block.parameters, change_PAN, strict=True):
            values_UN = block.view(parameter.data)
            values_UN[active] = values_UN[active] * (1 - group["lr"] * group["weight_decay"]) - change_AN

    def _state(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Steps and moments of a block; they belong to its first parameter."""
        states, kind = self.state[block.parameters[0]], "expert" if block.is_of_experts else "other"
        view_UN = block.view(block.parameters[0].detach())
        if kind not in states:
            means, squares = (view_UN.new_zeros(len(block.parameters), *view_UN.shape) for _ in range(2))
            states[kind] = {"step": torch.zeros(len(view_UN)), "mean_PUN": means, "square_PUN": squares}
        state = states[kind]
        state["step"] = state["step"].to(view_UN.device)  # float32 whatever the weights are: torch casts no "step"
        return state["step"], state["mean_PUN"], state["square_PUN"]


def _blocks(group: dict[str, Any]) -> Iterator[_Block]:
    by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for parameter in group["params"]:
        by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
    for shape, parameters in by_shape.items():
        if "rank" not in group:
            yield _Block(parameters, slice(None), 1)
            continue
        num_shared = int(group.get("shared_rank", 0))
        num_own = shape[0] - num_shared
        yield _Block(parameters, slice(num_own), num_own // int(group["rank"]))
        if num_shared:
            yield _Block(parameters, slice(num_own, None), 1)


def _has_gradient(block: _Block) -> Tensor:
    """True for units with a nonzero gradient in any of the parameters; (U,) bool."""
    return torch.stack([gradient_UN.any(dim=1) for gradient_UN in block.gradients()]).any(dim=0)


def _chosen(is_chosen_U: Tensor) -> Tensor | slice:
    """Their indices; all as a slice, which needs no copies."""
    return slice(None) if bool(is_chosen_U.all()) else is_chosen_U.nonzero().flatten()
