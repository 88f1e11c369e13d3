"""Input of a mixture's gate: from the cache, or from the encoder shared with the experts."""

from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.backbone.pooling import layer_frames
from moe_lightning.backbone.speech import Frames
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.gating.reading import GateConfig, Readable


class Heard(NamedTuple):
    """Gate input of a batch."""

    readable: Readable
    """Read by the gate, without a gradient."""
    base: Frames | None
    """Input of the first encoder layer with experts, if it lay on the way; the pass continues from here."""


def hear(experts: SpeechExperts, config: GateConfig, waveforms_BL: Tensor, num_samples_B: Tensor) -> Heard:
    """Gate input of audio, by the frozen base encoder.

    If it needs no layer above the first one with experts (`adapt_from_layer`), one pass serves both. In training
    the gate then reads audio masked by SpecAugment, as the experts do.
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
    """True if the gate's layers lie below the experts, in frames over the same window.

    The last layer never does: the gate reads it after the final norm.
    """
    backbone = experts.backbone
    highest = config.layer_numbers(backbone.num_layers)[-1]
    is_below = highest <= experts.config.adapt_from_layer and highest < backbone.num_layers
    return is_below and config.window == backbone.window
