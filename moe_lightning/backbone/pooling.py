"""From encoder frames to one vector an utterance."""

from typing import get_args

import torch
from torch import Tensor

from moe_lightning.backbone.speech import Frames
from moe_lightning.embedding_store import Pooling


def pool(frames: Frames, pooling: str) -> Tensor:
    """Pooled frames, float32.

    Args:
        pooling: ``mean`` over real frames (B, D); ``mean+std`` joins their standard deviation (B, 2 D);
            ``flatten`` joins all frames of a fixed window (B, T * D), which takes ``pad`` 30s;
            ``none`` stands for ``mean``: the gate and the clustering need one vector an utterance.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling must be one of {', '.join(get_args(Pooling))}, got {pooling!r}")
    values_BTD = frames.values_BTD.float()
    if pooling == "flatten":
        return values_BTD.flatten(1)
    is_real_BT1 = frames.is_real_BT[..., None]
    num_frames_B1 = frames.num_frames_B[:, None]
    mean_BD = (values_BTD * is_real_BT1).sum(1) / num_frames_B1
    if pooling != "mean+std":
        return mean_BD
    variance_BD = ((values_BTD - mean_BD[:, None]) ** 2 * is_real_BT1).sum(1) / num_frames_B1
    return torch.cat([mean_BD, variance_BD.sqrt()], dim=1)
