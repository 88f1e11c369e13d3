"""All experts in one linear layer.

    y = W x + scale * (share * (x down^T)) up

``down_RD`` stacks the A matrices of all experts, ``up_RD`` their B matrices, and ``share`` repeats each
utterance's gate over its experts' ranks. The gated sum of low-rank deltas *is* the merge of the
experts' parameters, so every utterance runs its own merged model, in two small products for the whole
batch. A one-hot gate runs one expert. LoRA: Hu et al. 2021, arXiv:2106.09685.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.errors import InputError


@dataclass(frozen=True)
class ExpertConfig:
    """Size and place of the experts.

    Raises:
        InputError: A number is out of its range.
    """

    num_experts: int
    rank: int = 16
    """Rank of each expert's deltas."""
    alpha: float = 32.0
    """Deltas are scaled by ``alpha / rank``."""
    dropout: float = 0.05
    """Of the deltas' input, in training."""
    shared_rank: int = 0
    """Rank of one more expert whose gate is always 1; 0 leaves it out."""
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Last part of the names of the linear layers that get experts, in encoder and decoder."""

    def __post_init__(self) -> None:
        if self.num_experts < 1 or self.rank < 1 or self.shared_rank < 0:
            raise InputError(
                "num_experts and rank must be at least 1 and shared_rank at least 0, got"
                f" {self.num_experts}, {self.rank} and {self.shared_rank}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def total_rank(self) -> int:
        """Rows of the stacked deltas: the experts one after another, the shared expert last."""
        return self.num_experts * self.rank + self.shared_rank

    def rows_of(self, expert: int) -> slice:
        return slice(expert * self.rank, (expert + 1) * self.rank)

    @property
    def shared_rows(self) -> slice:
        return slice(self.num_experts * self.rank, self.total_rank)


class Shares:
    """Each utterance's share of every stacked rank; one object that all layers of a model look at.

    Outside of `set`, the layers are the frozen backbone alone.
    """

    def __init__(self, config: ExpertConfig):
        self.config = config
        self.now_BR: Tensor | None = None

    @contextmanager
    def set(self, gate_BE: Tensor) -> Iterator[None]:
        """Within it, every layer mixes its experts by these gates (the shared expert counts in full)."""
        self.now_BR = self.expand(gate_BE)
        try:
            yield
        finally:
            self.now_BR = None

    def expand(self, gate_BE: Tensor) -> Tensor:
        """``scale * gate`` repeated over the experts' ranks, and the scale for the shared rows."""
        ranks_BR = gate_BE.repeat_interleave(self.config.rank, dim=1)
        if self.config.shared_rank:
            ranks_BR = torch.cat([ranks_BR, ranks_BR.new_ones(len(gate_BE), self.config.shared_rank)], dim=1)
        return ranks_BR * self.config.scale


class GatedLoRALinear(nn.Module):
    """A frozen linear layer and the deltas of all experts."""

    def __init__(self, base: nn.Linear, config: ExpertConfig, shares: Shares):
        super().__init__()
        self.base = base
        self.dropout = config.dropout
        self.shares = shares
        self.down_RD = nn.Parameter(torch.empty(config.total_rank, base.in_features))
        self.up_RD = nn.Parameter(torch.zeros(config.total_rank, base.out_features))
        nn.init.kaiming_uniform_(self.down_RD, a=math.sqrt(5))  # peft's start: the deltas are zero

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Also takes (B, D); the first axis is the utterance that the gates belong to."""
        y_BTD = self.base(x_BTD)
        shares_BR = self.shares.now_BR
        if shares_BR is None:
            return y_BTD
        hidden_BTR = F.linear(F.dropout(x_BTD, self.dropout, self.training), self.down_RD)
        shares_BR = shares_BR.to(hidden_BTR.dtype)
        hidden_BTR = hidden_BTR * (shares_BR if x_BTD.ndim == 2 else shares_BR[:, None])
        return y_BTD + hidden_BTR @ self.up_RD.to(hidden_BTR.dtype)


def install_experts(model: nn.Module, config: ExpertConfig) -> tuple[dict[str, GatedLoRALinear], Shares]:
    """Put experts beside every linear layer whose name ends in a target module, and freeze the rest.

    Returns:
        The new layers by the name of the linear layer that each stands for.

    Raises:
        InputError: No linear layer has such a name.
    """
    model.requires_grad_(False)
    shares = Shares(config)
    targets = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in config.target_modules
    }
    if not targets:
        raise InputError(f"the model has no linear layer named {' or '.join(config.target_modules)}")
    layers = {name: GatedLoRALinear(linear, config, shares) for name, linear in targets.items()}
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return layers, shares
