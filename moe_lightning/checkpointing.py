"""Checkpoints without the frozen backbone: gigabytes that never change."""

from typing import Any

from torch import nn


def drop_frozen(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Keep what training moves, and buffers, of a Lightning checkpoint's ``state_dict``."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    checkpoint["state_dict"] = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen}
