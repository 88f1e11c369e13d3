"""AdamW that updates an expert only in steps with an utterance of that expert.

All experts share stacked tensors, but each has its own optimizer state: an expert without an utterance in a
step (over all ranks and accumulated batches) keeps its weights, moments and step count. So jointly trained
experts equal experts trained alone on the same batches. An idle expert has a gradient of exactly zero; the
ranks share that gradient, so none has to ask the others.

AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moe_lightning.errors import InputError


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
                "lr, eps and weight_decay must be at least 0 and betas in [0, 1), got"
                f" {lr}, {eps}, {weight_decay} and {tuple(betas)}"
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
