"""Sums and means over an optimizer step's utterances, across all ranks."""

import torch
from torch import Tensor
from torch import distributed as dist


def num_ranks() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def largest_over_ranks(value: int, device: torch.device) -> int:
    """The largest of the ranks' numbers, on each rank."""
    values = torch.tensor(value, device=device)
    if num_ranks() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return int(values.item())


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of the ranks' equally shaped tensors, on each rank; without a gradient."""
    values = values.detach().clone()
    if num_ranks() > 1:
        dist.all_reduce(values)
    return values


def global_mean(values_BX: Tensor) -> Tensor:
    """Mean over the utterances of all ranks, float32.

    A rank gets its own part, times the number of ranks. So DDP's mean over the ranks' results and gradients is
    the mean over the global batch, even if a rank has fewer utterances.
    """
    num_all = sum_over_ranks(torch.tensor(float(len(values_BX)), device=values_BX.device))
    return values_BX.float().sum(dim=0) * num_ranks() / num_all
