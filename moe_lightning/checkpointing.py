"""What makes a resumed training the training that was never stopped."""

from typing import Any

import torch
from torch import nn


def drop_frozen(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Keep what training moves, and buffers, of a Lightning checkpoint's ``state_dict``.

    The frozen backbone is left out: gigabytes that never change.
    """
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    checkpoint["state_dict"] = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen}


def seed_step(seed: int, epoch: int, batch_idx: int, rank: int) -> None:
    """Make dropout a function of the place in the training, so that it needs no saving and is the same after a stop."""
    torch.manual_seed(hash((seed, epoch, batch_idx, rank)) % 2**63)  # of ints, the same in every process
