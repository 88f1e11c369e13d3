"""Load speech models by name: short names, hub ids, folders."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import (
    AutoConfig,
    GenerationConfig,
    HubertForCTC,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMForCTC,
    WavLMModel,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.utils import logging as hf_logging

from moe_lightning.backbone.names import resolve_name
from moe_lightning.errors import InputError
from moe_lightning.json_files import read_json_object
from moe_lightning.torch_pair import told_with_causes, torchaudio_complaint

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the error itself says enough
hf_logging.disable_progress_bar()  # nobody waits for the loading of weights
CTC_CLASSES: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (Wav2Vec2ForCTC, Wav2Vec2Model),
    "hubert": (HubertForCTC, HubertModel),
    "wavlm": (WavLMForCTC, WavLMModel),
    "wav2vec2-bert": (Wav2Vec2BertForCTC, Wav2Vec2BertModel),
}
"""With and without the CTC head, by the config's ``model_type``."""


_WEIGHTS_INDEX = "model.safetensors.index.json"
_WHISPER_FILES = (
    ("config.json",),
    ("generation_config.json",),
    ("tokenizer.json", "vocab.json"),
    ("model.safetensors", _WEIGHTS_INDEX),
)
"""Parts of a Whisper folder; one file of each group must exist."""


class CTCParts(NamedTuple):
    """Contents of a CTC model's folder."""

    model: Any
    """In float32."""
    extractor: Any
    """Converts waveforms to features."""
    tokenizer: Wav2Vec2CTCTokenizer | None
    """None if the model has no CTC head."""


def model_type(whisper_model: str) -> str:
    """Type of a speech model from its config: whisper, wav2vec2, hubert, wavlm, wav2vec2-bert, or another.

    Raises:
        InputError: There is no such folder, or the hub has no such model or is out of reach.
    """
    return str(load_config(whisper_model).model_type)


def load_config(whisper_model: str) -> Any:
    """The config of a speech model, a `PretrainedConfig`.

    Raises:
        InputError: There is no such folder, or the hub has no such model or is out of reach.
    """
    with _naming(whisper_model):
        return _config(resolve_name(whisper_model))


def load_whisper(whisper_model: str) -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    """A Whisper model in float32, and its tokenizer.

    Raises:
        InputError: The folder is no Whisper model, or the hub has no such model or is out of reach.
    """
    name = resolve_name(whisper_model)
    check_whisper_folder(Path(name))
    with _naming(whisper_model):
        model = WhisperForConditionalGeneration.from_pretrained(
            name, dtype="float32", attn_implementation="sdpa", use_safetensors=True
        )
        tokenizer = WhisperTokenizer.from_pretrained(name)
        model.generation_config = GenerationConfig.from_pretrained(name)
    return model, tokenizer


def check_whisper_folder(folder: Path) -> None:
    """Raise an InputError for an incomplete Whisper folder; a path that is no folder passes.

    transformers replaces some missing parts by wrong defaults: without ``generation_config.json`` no token is
    suppressed, and an English-only model counts as multilingual.
    """
    if not folder.is_dir():
        return
    missing = [names[0] for names in _WHISPER_FILES if not any((folder / name).exists() for name in names)]
    missing += [name for name in _shards(folder) if not (folder / name).exists()]
    if missing:
        pickled = (folder / "pytorch_model.bin").exists()
        hint = " (pytorch_model.bin can run code, so it is not read: save the model anew by save_pretrained)"
        raise InputError(
            f"cannot load the speech model {folder}: it lacks {', '.join(missing)}{hint if pickled else ''}; copy what"
            " is missing from the model that it was fine-tuned from or downloaded of"
        )


def _shards(folder: Path) -> list[str]:
    """Weight files named in the folder's index; none if the weights are in one file."""
    index = folder / _WEIGHTS_INDEX
    if not index.exists():
        return []
    weight_map = read_json_object(index, "save_pretrained", {"weight_map": dict})["weight_map"]
    return sorted({str(name) for name in weight_map.values()})


def load_ctc(whisper_model: str) -> CTCParts:
    """A wav2vec 2.0, HuBERT, WavLM or w2v-BERT model, with head and tokenizer if it was saved for CTC.

    Raises:
        InputError: The folder lacks a part, or the hub has no such model or is out of reach.
    """
    name = resolve_name(whisper_model)
    with _naming(whisper_model):
        config = _config(name)
        has_head = any(architecture.endswith("ForCTC") for architecture in config.architectures or ())
        model_class = CTC_CLASSES[config.model_type][0 if has_head else 1]
        attention = "eager" if config.model_type == "wavlm" else "sdpa"  # transformers has no other for WavLM
        model = model_class.from_pretrained(name, dtype="float32", attn_implementation=attention, use_safetensors=True)
        is_bert = config.model_type == "wav2vec2-bert"
        extractor_class = SeamlessM4TFeatureExtractor if is_bert else Wav2Vec2FeatureExtractor
        extractor = extractor_class.from_pretrained(name)
        return CTCParts(model, extractor, Wav2Vec2CTCTokenizer.from_pretrained(name) if has_head else None)


def _config(name: str) -> Any:
    """A model's config; custom code in its folder is refused without a prompt."""
    return AutoConfig.from_pretrained(name, trust_remote_code=False)


@contextmanager
def _naming(whisper_model: str) -> Iterator[None]:
    """Context that turns transformers' errors for an unloadable model into one line."""
    try:
        yield
    except Exception as error:  # for an invalid config transformers raises errors of any type
        if not_loaded := torchaudio_complaint(error):
            raise InputError(not_loaded) from error
        raise InputError(
            f"cannot load the speech model {whisper_model!r}: it must be v2, v3, nano, the id of a Whisper model (or a"
            " wav2vec 2.0, HuBERT, WavLM or w2v-BERT one) that this machine can reach on the hub, or a folder saved by"
            f" save_pretrained ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """First line of an error; for a failed import also its causes, which alone explain it."""
    if isinstance(error, ImportError):
        return told_with_causes(error)
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
