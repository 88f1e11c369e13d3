"""AdamW that moves an expert only in steps in which it had an utterance.

All experts lie in the same stacked tensors, but each has an optimizer of its own: an expert without an
utterance in a step (over all ranks and accumulated batches) keeps its weights, moments and step count. So
experts that are trained together become what each would have become alone on the same batches. An idle
expert is known by its gradient, which is exactly zero; no rank has to ask the others, since they share it.

AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from moe_lightning.errors import InputError


class _Stack(NamedTuple):
    """Parameters of one shape, which are updated together."""

    parameters: list[nn.Parameter]
    """P of them, each of R rows; a parameter that holds no experts is one row."""

    @property
    def gradients_PRD(self) -> Tensor:
        first = self.parameters[0]
        gradients = [one.grad if one.grad is not None else torch.zeros_like(one) for one in self.parameters]
        rows = first.shape[0] if first.ndim == 2 else 1
        return torch.stack([gradient.reshape(rows, -1) for gradient in gradients])


class ExpertAdamW(Optimizer):
    """AdamW over groups of parameters whose rows belong to experts.

    A group with the key ``rank`` holds stacked deltas: ``rank`` rows for each expert, and behind them rows of
    the shared expert, which move in every step. A group without it is trained as by AdamW; where none of it
    has a gradient, it stays.

    Args:
        lr: Learning rate.
        betas: Decay of the moments of first and second order.
        eps: Beside the root of the second moment.
        weight_decay: Decoupled; of experts that move.

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
        """One step of every expert that has a gradient, and of all else."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            stacks = list(_stacks(group))
            gradients = [stack.gradients_PRD for stack in stacks]
            is_active_U = self._active(group, gradients)
            for stack, gradients_PRD in zip(stacks, gradients, strict=True):
                self._update(group, stack, gradients_PRD, is_active_U)
        return loss

    @torch.no_grad()
    def clip_experts(self, max_norm: float) -> Tensor:
        """Scale each expert's gradient to a norm of at most ``max_norm``, whatever the others' are.

        Returns:
            Norms before the clipping: each expert's, then one for the shared rows of each group.
        """
        norms = []
        for group in self.param_groups:
            stacks = list(_stacks(group))
            gradients = [stack.gradients_PRD for stack in stacks]
            norm_U = torch.stack([_by_unit(one.square(), group) for one in gradients]).sum(dim=0).sqrt()
            factor_U = (max_norm / (norm_U + 1e-6)).clamp(max=1.0)
            for stack, gradients_PRD in zip(stacks, gradients, strict=True):
                factors_R1 = _over_rows(factor_U, group, gradients_PRD.shape[1])
                for parameter in stack.parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(factors_R1 if parameter.ndim == 2 else factors_R1[0, 0])
            norms.append(norm_U)
        return torch.cat(norms)

    def freeze(self, is_frozen_E: Tensor) -> None:
        """Let these experts be, whatever their gradients; a boolean an expert."""
        for group in self.param_groups:
            if "rank" in group:
                group["frozen"] = is_frozen_E.tolist()

    def _active(self, group: dict[str, Any], gradients: list[Tensor]) -> Tensor:
        """Which experts had an utterance, (U,) bool: the group's experts, then its shared rows."""
        is_active_U = torch.stack([_by_unit(gradients_PRD != 0, group) for gradients_PRD in gradients]).sum(dim=0) > 0
        if "rank" in group:
            num_own = len(is_active_U) - 1
            frozen = [*group.get("frozen", []), *[False] * num_own][:num_own]
            is_active_U &= ~torch.tensor([*frozen, False], device=is_active_U.device)
        return is_active_U

    def _update(self, group: dict[str, Any], stack: _Stack, gradients_PRD: Tensor, is_active_U: Tensor) -> None:
        state = self._state(stack, gradients_PRD, is_active_U)
        beta1, beta2 = group["betas"]
        rows = gradients_PRD.shape[1]
        state["step_U"] += is_active_U
        is_active_R1 = _over_rows(is_active_U.to(gradients_PRD.dtype), group, rows)
        step_R1 = _over_rows(state["step_U"], group, rows).clamp(min=1)
        state["mean_PRD"].lerp_(gradients_PRD, is_active_R1 * (1 - beta1))
        state["square_PRD"].lerp_(gradients_PRD.square(), is_active_R1 * (1 - beta2))
        root_PRD = (state["square_PRD"] / (1 - beta2**step_R1)).sqrt_().add_(group["eps"])
        rate_R1 = is_active_R1 * (group["lr"] / (1 - beta1**step_R1))
        values_PRD = torch.stack([one.reshape(rows, -1) for one in stack.parameters])
        values_PRD *= 1 - is_active_R1 * (group["lr"] * group["weight_decay"])
        values_PRD -= rate_R1 * state["mean_PRD"] / root_PRD
        for parameter, values_RD in zip(stack.parameters, values_PRD, strict=True):
            parameter.copy_(values_RD.view(parameter.shape))

    def _state(self, stack: _Stack, gradients_PRD: Tensor, is_active_U: Tensor) -> dict[str, Tensor]:
        """Moments of a stack and steps of each expert; they belong to its first parameter."""
        state: dict[str, Tensor] = self.state[stack.parameters[0]]
        if not state:
            state["step_U"] = torch.zeros_like(is_active_U, dtype=gradients_PRD.dtype)
            state["mean_PRD"] = torch.zeros_like(gradients_PRD)
            state["square_PRD"] = torch.zeros_like(gradients_PRD)
        return state


def _stacks(group: dict[str, Any]) -> Iterator[_Stack]:
    by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for parameter in group["params"]:
        by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
    return map(_Stack, by_shape.values())


def _num_experts(group: dict[str, Any], rows: int) -> int:
    return (rows - int(group.get("shared_rank", 0))) // int(group["rank"]) if "rank" in group else 0


def _by_unit(values_PRD: Tensor, group: dict[str, Any]) -> Tensor:
    """Sums of each expert's rows, and of the shared ones behind them; (U,)."""
    sums_R = values_PRD.sum(dim=(0, 2))
    num_own = _num_experts(group, len(sums_R)) * int(group.get("rank", 0))
    own_E = sums_R[:num_own].view(-1, int(group["rank"])).sum(dim=1) if num_own else sums_R[:0]
    return torch.cat([own_E, sums_R[num_own:].sum(dim=0, keepdim=True)])


def _over_rows(values_U: Tensor, group: dict[str, Any], rows: int) -> Tensor:
    """Each expert's value at its rows, the last value at those of the shared expert; (R, 1)."""
    own_R = values_U[:-1].repeat_interleave(int(group.get("rank", 1)))
    return torch.cat([own_R, values_U[-1:].expand(rows - len(own_R))])[:, None]
