"""Selection of a speech model's linear layers for experts."""

import re
from collections.abc import Sequence

from torch import nn

from moe_lightning.errors import InputError

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
        raise InputError(f"adapt_from_layer must be in 0..{num_layers}, the encoder's layers, got {adapt_from_layer}")
    names: set[str] = set()
    for target in target_modules:
        matched = {name for name in linears if _matches(target, name)}
        if not matched and target in _ALSO_CALLED:
            matched = {name for name in linears if _matches(_ALSO_CALLED[target], name)}
        if not matched:
            known = sorted({name.rpartition(".")[2] for name in linears})
            raise InputError(f"the model has no linear layer named {target}; there are {', '.join(known)}")
        names |= matched
    found = {name: linears[name] for name in linears if name in names and not _is_below(name, adapt_from_layer)}
    if not found:
        raise InputError(
            f"no linear layer named {' or '.join(target_modules)} lies above encoder layer {adapt_from_layer}"
        )
    return found


def _matches(target: str, name: str) -> bool:
    if name.rpartition(".")[2] == target:
        return True
    try:
        return re.fullmatch(target, name) is not None
    except re.error as error:
        raise InputError(
            f"target_modules takes names of linear layers or regular expressions, {target!r} is neither ({error})"
        ) from error


def _encoder_layer(name: str) -> int | None:
    found = _ENCODER_LAYER.search(name)
    return int(found[1]) if found else None


def _is_below(name: str, adapt_from_layer: int) -> bool:
    layer = _encoder_layer(name)
    if layer is not None:
        return layer < adapt_from_layer
    return adapt_from_layer > 0 and any(part in _BELOW_THE_ENCODER for part in name.split("."))
