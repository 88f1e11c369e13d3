"""From encoder layers to one vector per utterance."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import Features, Frames, SpeechBackbone
from moe_lightning.settings.embedding import Pooling

LAST = "last"


def parse_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """Numbers of encoder layers in rising order, from a text such as ``6``, ``last`` or ``6,12,last``.

    Layer n is the output of n layers, 0 the stem itself; ``last`` is the highest, after the final layer norm.

    Raises:
        InputError: There is no such layer, or one is named twice.
    """
    words = [word.strip() for word in text.split(",")]
    layers = [num_layers if word == LAST else int(word) if word.isdecimal() else -1 for word in words]
    for word, layer in zip(words, layers, strict=True):
        if not 0 <= layer <= num_layers:
            raise InputError(
                "setting.choice",
                f"--embedding-layer {text}: {word!r} is no layer of this encoder; give 0 to {num_layers}, {LAST}, or"
                f" several joined by commas",
                f"--embedding-layer {text}",
            )
    if len(set(layers)) < len(layers):
        raise InputError(
            "setting.choice",
            f"--embedding-layer {text} names a layer twice; {LAST} is layer {num_layers}",
            f"--embedding-layer {text}",
        )
    return tuple(sorted(layers))


def layers_text(layers: Sequence[int], num_layers: int) -> str:
    """Canonical text of layers, as read by `parse_layers`."""
    return ",".join(LAST if layer == num_layers else str(layer) for layer in layers)


def layer_frames(backbone: SpeechBackbone, features: Features, layers: Sequence[int]) -> Frames:
    """Frames of several encoder layers joined along D, from one pass that ends at the highest.

    Args:
        layers: From `parse_layers`.

    Raises:
        InputError: The last layer ends in an adapter that changes the number of frames.
    """
    frames, done, found = backbone.stem(features), 0, []
    for layer in layers:
        if layer > done:
            frames = backbone.run_layers(frames, done, None if layer == backbone.num_layers else layer)
            done = layer
        found.append(frames.values_BTD)
    if len({values_BTD.shape[1] for values_BTD in found}) > 1:
        raise InputError(
            "setting.conflict",
            "this encoder's last layer has other frames than the layers below it; give one layer alone",
            "--embedding-layer",
        )
    return frames._replace(values_BTD=found[0] if len(found) == 1 else torch.cat(found, dim=-1))


def pool(frames: Frames, pooling: str) -> Tensor:
    """Pooled frames, float32.

    Args:
        pooling: ``mean`` over real frames (B, D); ``mean+std`` joins their standard deviation (B, 2 D);
            ``flatten`` joins all frames of a fixed window (B, T * D) and needs Whisper's window of 30 s;
            ``none`` means ``mean``: gate and clustering need one vector per utterance.
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
