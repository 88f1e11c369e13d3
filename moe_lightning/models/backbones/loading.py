"""Load the backbone of a named speech model."""

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.ctc import CTCBackbone
from moe_lightning.models.backbones.pretrained import load_config, model_type
from moe_lightning.models.backbones.w2v_bert import W2vBertBackbone
from moe_lightning.models.backbones.wav2vec2 import Wav2Vec2Backbone, WavLMBackbone
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.backbones.window import Window, own_window, parse_window

CTC_BACKBONES: dict[str, type[CTCBackbone]] = {
    "wav2vec2": Wav2Vec2Backbone,
    "hubert": Wav2Vec2Backbone,
    "wavlm": WavLMBackbone,
    "wav2vec2-bert": W2vBertBackbone,
}


def resolve_window(window: Window, whisper_model: str) -> float:
    """Window in seconds, 0 for real lengths; ``auto`` is read from the model's config. No weights are read.

    Raises:
        InputError: It is no window, or there is no such model.
    """
    seconds = parse_window(window)
    if seconds is not None:
        return seconds
    config = load_config(whisper_model)
    return own_window(config, config.model_type)


def load_backbone(whisper_model: str, window: Window = "auto") -> SpeechBackbone:
    """Backbone of a model: v2, v3, nano, a hub id, or a folder; the config names its type.

    Args:
        window: Minimum input: ``auto``, ``real`` or seconds, see `parse_window`.

    Raises:
        InputError: The model is missing or its type carries no experts, or the window is invalid.
    """
    kind = model_type(whisper_model)
    if kind == "whisper":
        return WhisperBackbone.load(whisper_model, window)
    if kind not in CTC_BACKBONES:
        kinds = ", ".join(["whisper", *CTC_BACKBONES])
        raise InputError(
            "model.unfit", f"the speech model {whisper_model!r} is of the kind {kind}; give one of {kinds}", kind
        )
    return CTC_BACKBONES[kind].load(whisper_model, window)
