"""Layer compilation and gradient checkpointing, with the state of the forward pass."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from moe_lightning.models.backbones.base import SpeechBackbone

_LAYER = re.compile(r"(?:^|\.)(?:encoder|decoder)\.layers\.\d+$")


def compile_layers(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each encoder and decoder layer for training, not for decoding: its shapes grow token by token.

    The gates are an input of the compiled layer like its frames, since they change with every batch.
    """
    for layer in _layers(model):
        layer.forward = _compiled(layer.forward, backend)


def _compiled(forward: Callable[..., Any], backend: str) -> Callable[..., Any]:
    fast = torch.compile(forward, backend=backend, dynamic=True)

    def run(*args: Any, **kwargs: Any) -> Any:
        return fast(*args, **kwargs) if torch.is_grad_enabled() else forward(*args, **kwargs)

    return run


def checkpoint_layers(backbone: SpeechBackbone) -> None:
    """Keep only the input of each layer in training, and run the layer again in the backward pass.

    By then gates and masks are gone, so each layer keeps those of its forward pass. Chen et al. 2016,
    arXiv:1604.06174.
    """
    for layer in _layers(backbone.model):
        layer.forward = _checkpointed(layer, layer.forward, backbone)


def _checkpointed(layer: nn.Module, forward: Callable[..., Any], backbone: SpeechBackbone) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not layer.training or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        kept = backbone.state.kept()

        def as_now(*args: Any, **kwargs: Any) -> Any:
            with kept():
                return forward(*args, **kwargs)

        return checkpoint(as_now, *args, use_reentrant=False, **kwargs)

    return run


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Transformer layers of encoder and decoder."""
    return (module for name, module in model.named_modules() if _LAYER.search(name))
