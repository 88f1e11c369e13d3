"""From the name of a speech model to its backbone."""

from moe_lightning.backbone.ctc import CTCBackbone
from moe_lightning.backbone.pretrained import model_type
from moe_lightning.backbone.speech import Pad, SpeechBackbone
from moe_lightning.backbone.w2v_bert import W2vBertBackbone
from moe_lightning.backbone.wav2vec2 import Wav2Vec2Backbone, WavLMBackbone
from moe_lightning.backbone.whisper import WhisperBackbone
from moe_lightning.errors import InputError

CTC_BACKBONES: dict[str, type[CTCBackbone]] = {
    "wav2vec2": Wav2Vec2Backbone,
    "hubert": Wav2Vec2Backbone,
    "wavlm": WavLMBackbone,
    "wav2vec2-bert": W2vBertBackbone,
}


def load_backbone(whisper_model: str, pad: Pad = "batch", language: str = "en") -> SpeechBackbone:
    """The backbone of a model: v2, v3, nano, a hub id, or a folder; its config says of what kind it is.

    Args:
        pad: How its features are padded.
        language: Language of utterances that name none; CTC models write what they were trained on.

    Raises:
        InputError: There is no such model, or it is of a kind that carries no experts.
    """
    kind = model_type(whisper_model)
    if kind == "whisper":
        return WhisperBackbone.load(whisper_model, pad, language)
    if kind not in CTC_BACKBONES:
        kinds = ", ".join(["whisper", *CTC_BACKBONES])
        raise InputError(f"the speech model {whisper_model!r} is of the kind {kind}; give one of {kinds}")
    return CTC_BACKBONES[kind].load(whisper_model, pad)
