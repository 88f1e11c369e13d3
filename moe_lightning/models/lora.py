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
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import PassState
from moe_lightning.models.backbones.wav2vec2 import call_projections
from moe_lightning.models.expert_config import ExpertConfig


class Mix(NamedTuple):
    """The gates of a batch in the layers' layout."""

    ranks_BR: Tensor
    """``scale * gate`` for each row of the stacked deltas; ``scale`` for the shared rows."""
    kept_BK: Tensor | None
    """Experts with a nonzero gate, equally many per utterance; None if more than half of all, or none."""
    kept_ranks_BR: Tensor | None
    """``ranks_BR`` of the kept experts' rows and the shared rows."""
    gathered: dict[Any, tuple[Tensor, Tensor]]
    """Rows of the kept experts by layer, reused for each token."""

    @property
    def is_worth_gathering(self) -> bool:
        """True if the rows of all utterances' experts are few enough to be kept during decoding."""
        if self.kept_ranks_BR is None:
            return False
        return self.kept_ranks_BR.numel() <= 2 * self.ranks_BR.shape[1]


def mix_of(gate_BE: Tensor, config: ExpertConfig) -> Mix:
    """The gates in the layers' layout; the shared expert counts in full.

    An expert with a gate of exactly 0 is not computed if few others run, so its gate then has no gradient.
    """
    assert gate_BE.shape[1] == config.num_experts, f"{gate_BE.shape[1]} gates for {config.num_experts} experts"
    adapted_BE = gate_BE[:, : config.num_adapted]
    ranks_BR = _over_ranks(adapted_BE, config)
    num_kept = int((adapted_BE.detach() != 0).sum(dim=1).max()) if len(gate_BE) else 0
    if not 0 < 2 * num_kept <= config.num_adapted:
        return Mix(ranks_BR, None, None, {})
    kept_BK = adapted_BE.detach().abs().topk(num_kept, dim=1).indices
    return Mix(ranks_BR, kept_BK, _over_ranks(adapted_BE.gather(1, kept_BK), config), {})


def row_mask(is_chosen_E: Tensor, config: ExpertConfig) -> Tensor:
    """True at the rows of these experts, (R,); the shared rows belong to none."""
    own_R = is_chosen_E[: config.num_adapted].repeat_interleave(config.rank)
    return torch.cat([own_R, own_R.new_zeros(config.shared_rank)])


def _over_ranks(gate_BK: Tensor, config: ExpertConfig) -> Tensor:
    """``scale * gate`` repeated over the experts' ranks, and the scale for the shared rows."""
    ranks_BR = gate_BK.repeat_interleave(config.rank, dim=1)
    if config.shared_rank:
        ranks_BR = torch.cat([ranks_BR, ranks_BR.new_ones(len(gate_BK), config.shared_rank)], dim=1)
    return ranks_BR * config.scale


_ENCODER_LAYER = re.compile(r"(?:^|\.)encoder\.layers\.(\d+)\.")
_BELOW_THE_ENCODER = ("feature_extractor", "feature_projection")
"""Name parts of modules before encoder layer 0 in transformers' CTC models."""
_ALSO_CALLED = {"q_proj": "linear_q", "k_proj": "linear_k", "v_proj": "linear_v", "out_proj": "linear_out"}
"""An attention's projections: usual name -> name in w2v-BERT."""


def find_targets(model: nn.Module, target_modules: Sequence[str], adapt_from_layer: int = 0) -> dict[str, nn.Linear]:
    """The target linear layers, by name.

    Args:
        target_modules: Each the last part of a name (``q_proj``, ``fc1``, ``intermediate_dense``), or a regular
            expression for the whole name (``.*decoder.*fc[12]``).
        adapt_from_layer: Encoder layers below this one are left out.

    Raises:
        InputError: A target is no regular expression or matches no layer; or the encoder has fewer layers.
    """
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    num_layers = 1 + max((layer for name in linears if (layer := _encoder_layer(name)) is not None), default=-1)
    if adapt_from_layer > num_layers:
        raise InputError(
            "setting.range",
            f"adapt_from_layer must be in 0..{num_layers}, the encoder's layers, got {adapt_from_layer}",
            f"adapt_from_layer={adapt_from_layer}",
        )
    names: set[str] = set()
    for target in target_modules:
        matched = {name for name in linears if _matches(target, name)}
        if not matched and target in _ALSO_CALLED:
            matched = {name for name in linears if _matches(_ALSO_CALLED[target], name)}
        if not matched:
            known = sorted({name.rpartition(".")[2] for name in linears})
            raise InputError(
                "setting.choice", f"the model has no linear layer named {target}; there are {', '.join(known)}", target
            )
        names |= matched
    found = {name: linears[name] for name in linears if name in names and not _is_below(name, adapt_from_layer)}
    if not found:
        raise InputError(
            "setting.conflict",
            f"no linear layer named {' or '.join(target_modules)} lies above encoder layer {adapt_from_layer}",
            f"adapt_from_layer={adapt_from_layer}",
        )
    return found


def _matches(target: str, name: str) -> bool:
    if name.rpartition(".")[2] == target:
        return True
    try:
        return re.fullmatch(target, name) is not None
    except re.error as error:
        raise InputError(
            "setting.syntax",
            f"target_modules takes names of linear layers or regular expressions, {target!r} is neither ({error})",
            target,
        ) from error


def _encoder_layer(name: str) -> int | None:
    found = _ENCODER_LAYER.search(name)
    return int(found[1]) if found else None


def _is_below(name: str, adapt_from_layer: int) -> bool:
    layer = _encoder_layer(name)
    if layer is not None:
        return layer < adapt_from_layer
    return adapt_from_layer > 0 and any(part in _BELOW_THE_ENCODER for part in name.split("."))


GATHER_FRAMES = 16
"""Cost of gathering an expert's rows for an utterance, in frames through that expert."""


class GatedLoRALinear(nn.Module):
    """A frozen linear layer and the deltas of all experts."""

    def __init__(self, base: nn.Linear, config: ExpertConfig, state: PassState):
        super().__init__()
        self.base = base
        self.config = config
        self.shared_rows = config.shared_rows
        self.state = state
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
            "model.unfit",
            "the model reads the weight of a linear layer that has experts, and would leave them out; choose other"
            " target_modules",
            "target_modules",
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Also takes (B, D); the first axis matches the rows of the gates."""
        y_BTD = self.base(x_BTD)
        mix = self.state.now.mix
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
        shared = self.shared_rows
        own_EM = stacked_RD[: shared.start].view(self.config.num_adapted, -1)
        kept_BRD = F.embedding(kept_BK, own_EM).view(len(kept_BK), -1, stacked_RD.shape[1])
        if not self.config.shared_rank:
            return kept_BRD
        return torch.cat([kept_BRD, stacked_RD[shared].expand(len(kept_BK), -1, -1)], dim=1)


def install_experts(model: nn.Module, config: ExpertConfig, state: PassState) -> dict[str, GatedLoRALinear]:
    """Add experts to every target linear layer, and freeze the rest.

    Args:
        state: Holds the gates of a pass; read by all layers.

    Returns:
        The new layers by the names of the replaced linear layers.

    Raises:
        InputError: The model has no such linear layer, or fewer encoder layers.
    """
    model.requires_grad_(False)
    targets = find_targets(model, config.target_modules, config.adapt_from_layer)
    layers = {name: GatedLoRALinear(linear, config, state) for name, linear in targets.items()}
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
        call_projections(model.get_submodule(parent))
    return layers
