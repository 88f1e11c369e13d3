"""All experts in one linear layer.

    y = W x + scale * (share * (x down^T)) up

``down_RD`` stacks the A matrices of all experts, ``up_RD`` their B matrices, and ``share`` repeats each
utterance's gate over its experts' ranks. The gated sum of low-rank deltas *is* the merge of the
experts' parameters, so every utterance runs its own merged model, in two small products for the whole
batch. A one-hot gate runs one expert. LoRA: Hu et al. 2021, arXiv:2106.09685.

If an utterance keeps few of many experts, their rows are gathered first: the cost then depends on the
kept experts alone.
"""

import math
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.backbone.wavlm_attention import call_projections
from moe_lightning.errors import InputError
from moe_lightning.experts.expert_config import ExpertConfig
from moe_lightning.experts.shares import Mix, Shares
from moe_lightning.experts.targets import find_targets

__all__ = ["ExpertConfig", "GatedLoRALinear", "Shares", "install_experts"]

GATHER_FRAMES = 16
"""Cost of gathering an expert's rows for an utterance, in frames through that expert."""


class GatedLoRALinear(nn.Module):
    """A frozen linear layer and the deltas of all experts."""

    def __init__(self, base: nn.Linear, config: ExpertConfig, shares: Shares):
        super().__init__()
        self.base = base
        self.config = config
        self.shares = shares
        self.down_RD = nn.Parameter(torch.empty(config.total_rank, base.in_features))
        self.up_RD = nn.Parameter(torch.zeros(config.total_rank, base.out_features))
        nn.init.kaiming_uniform_(self.down_RD, a=math.sqrt(5))  # peft's start: the deltas are zero

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    @property
    def weight(self) -> NoReturn:
        """Refused: a model that reads the weight past `forward` would run without its experts.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "the model reads the weight of a linear layer that has experts, and would leave them out; choose other"
            " target_modules"
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Also takes (B, D); the first axis matches the rows of the gates."""
        y_BTD = self.base(x_BTD)
        mix = self.shares.now
        if mix is None:
            return y_BTD
        if x_BTD.ndim == 2:
            return self._add_deltas(y_BTD[:, None], x_BTD[:, None], mix)[:, 0]
        return self._add_deltas(y_BTD, x_BTD, mix)

    def _add_deltas(self, y_BTD: Tensor, x_BTD: Tensor, mix: Mix) -> Tensor:
        """``y`` plus the mixed deltas' output for ``x``."""
        assert x_BTD.shape[0] == mix.ranks_BR.shape[0], f"{x_BTD.shape[0]} rows, {mix.ranks_BR.shape[0]} gates"
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training)
        if mix.kept_BK is not None and mix.kept_ranks_BR is not None:
            num_frames, num_kept = x_BTD.shape[1], mix.kept_BK.shape[1]
            if num_frames < GATHER_FRAMES and not torch.is_grad_enabled() and mix.is_worth_gathering:
                down_BDR, up_BRD = self._gathered(mix, mix.kept_BK, mix.kept_ranks_BR)
                return torch.baddbmm(y_BTD, torch.bmm(x_BTD, down_BDR), up_BRD)
            if num_kept * (num_frames + GATHER_FRAMES) < self.config.num_adapted * num_frames:
                return self._add_kept(y_BTD, x_BTD, mix.kept_BK, mix.kept_ranks_BR)
        hidden_BTR = F.linear(x_BTD, self.down_RD)
        hidden_BTR = hidden_BTR * mix.ranks_BR.to(hidden_BTR.dtype)[:, None]
        return y_BTD + hidden_BTR @ self.up_RD.to(hidden_BTR.dtype)

    def _add_kept(self, y_BTD: Tensor, x_BTD: Tensor, kept_BK: Tensor, ranks_BR: Tensor) -> Tensor:
        hidden_BTR = torch.bmm(x_BTD, self._rows(self.down_RD, kept_BK).mT)
        hidden_BTR = hidden_BTR * ranks_BR.to(hidden_BTR.dtype)[:, None]
        return torch.baddbmm(y_BTD, hidden_BTR, self._rows(self.up_RD, kept_BK).to(hidden_BTR.dtype))

    def _gathered(self, mix: Mix, kept_BK: Tensor, ranks_BR: Tensor) -> tuple[Tensor, Tensor]:
        """Each utterance's own two matrices, made once for all its tokens."""
        if self not in mix.gathered:
            down_BDR = self._rows(self.down_RD, kept_BK).mT.contiguous()
            mix.gathered[self] = down_BDR, self._rows(self.up_RD, kept_BK) * ranks_BR.to(self.up_RD.dtype)[..., None]
        down_BDR, up_BRD = mix.gathered[self]
        return down_BDR, up_BRD

    def _rows(self, stacked_RD: Tensor, kept_BK: Tensor) -> Tensor:
        """Rows of each utterance's experts, followed by the shared expert's."""
        shared = self.config.shared_rows
        own_EM = stacked_RD[: shared.start].view(self.config.num_adapted, -1)
        kept_BRD = F.embedding(kept_BK, own_EM).view(len(kept_BK), -1, stacked_RD.shape[1])
        if not self.config.shared_rank:
            return kept_BRD
        return torch.cat([kept_BRD, stacked_RD[shared].expand(len(kept_BK), -1, -1)], dim=1)


def install_experts(model: nn.Module, config: ExpertConfig) -> tuple[dict[str, GatedLoRALinear], Shares]:
    """Add experts to every target linear layer, and freeze the rest.

    Returns:
        The new layers by the names of the replaced linear layers, and their common `Shares`.

    Raises:
        InputError: The model has no such linear layer, or fewer encoder layers.
    """
    model.requires_grad_(False)
    shares = Shares(config)
    targets = find_targets(model, config.target_modules, config.adapt_from_layer)
    layers = {name: GatedLoRALinear(linear, config, shares) for name, linear in targets.items()}
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
        call_projections(model.get_submodule(parent))
    return layers, shares
