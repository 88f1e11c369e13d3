"""What a mixture's gate reads of audio: from the cache, or from the encoder that the experts go on from."""

from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.backbone.pooling import layer_frames
from moe_lightning.backbone.speech import Frames
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.gating.reading import GateConfig, Readable


class Heard(NamedTuple):
    """A batch, as far as the gate needs to hear it."""

    readable: Readable
    """What the gate reads; no gradient goes through it."""
    base: Frames | None
    """What the first encoder layer with experts reads, where it lay on the way; the pass goes on from here."""


def hear(experts: SpeechExperts, config: GateConfig, waveforms_BL: Tensor, num_samples_B: Tensor) -> Heard:
    """What the gate reads of audio, by the frozen base encoder.

    Where it reads no layer above the first one with experts (`adapt_from_layer`), one pass serves both. In training
    the gate then hears what SpecAugment has left, as the experts do.
    """
    backbone = experts.backbone
    layers = config.layer_numbers(backbone.num_layers)
    with torch.no_grad():
        if not is_on_the_way(experts, config):
            features = backbone.features(waveforms_BL, num_samples_B, config.window)
            return Heard(config.of_frames(layer_frames(backbone, features, layers)), None)
        frames, base = experts.base_layers(waveforms_BL, num_samples_B, layers)
        return Heard(config.of_frames(frames), base)


def is_on_the_way(experts: SpeechExperts, config: GateConfig) -> bool:
    """Whether the gate's layers lie below the experts, in frames over the same window.

    The last layer never does: what the gate reads of it is behind the final norm.
    """
    backbone = experts.backbone
    highest = config.layer_numbers(backbone.num_layers)[-1]
    is_below = highest <= experts.config.adapt_from_layer and highest < backbone.num_layers
    return is_below and config.window == backbone.window
