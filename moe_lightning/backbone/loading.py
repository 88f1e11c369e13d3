"""From the name of a speech model to its backbone."""

from moe_lightning.backbone.speech import Pad, SpeechBackbone
from moe_lightning.backbone.whisper import WhisperBackbone


def load_backbone(whisper_model: str, pad: Pad = "batch", language: str = "en") -> SpeechBackbone:
    """The backbone of a model: v2, v3, nano, a hub id, or a folder.

    Args:
        pad: How its features are padded.
        language: Language of utterances that name none.

    Raises:
        InputError: There is no such model, or it is of a kind that carries no experts.
    """
    return WhisperBackbone.load(whisper_model, pad, language)
