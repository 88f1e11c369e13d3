"""Load speech models by name: short names, hub ids, folders."""

import logging
import warnings
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

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.model_folder import (
    GENERATION_FIELDS,
    check_config_file,
    check_files,
    check_whisper_folder,
)
from moe_lightning.models.backbones.names import resolve_name
from moe_lightning.system.torch_pair import told_with_causes, torchaudio_complaint

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the error itself says enough
hf_logging.disable_progress_bar()  # nobody waits for the loading of weights
CTC_CLASSES: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (Wav2Vec2ForCTC, Wav2Vec2Model),
    "hubert": (HubertForCTC, HubertModel),
    "wavlm": (WavLMForCTC, WavLMModel),
    "wav2vec2-bert": (Wav2Vec2BertForCTC, Wav2Vec2BertModel),
}
"""With and without the CTC head, by the config's ``model_type``."""


_NOT_READ = ("model.encoder.embed_positions.weight", "masked_spec_embed")
"""Ends of the names of tensors that weights may lack: Whisper's sine waves, which transformers computes, and the mask
of wav2vec 2.0's own training, which nothing here uses; wav2vec2-base-960h lacks it."""


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
    name = resolve_name(whisper_model)
    check_config_file(Path(name))
    with _naming(whisper_model):
        return _config(name)


def load_whisper(whisper_model: str) -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    """A Whisper model in float32, and its tokenizer.

    Raises:
        InputError: The folder is no Whisper model or is damaged, weights are missing, or the hub has no such model or
            is out of reach.
    """
    name = resolve_name(whisper_model)
    check_files(Path(name))
    check_whisper_folder(Path(name))
    with _naming(whisper_model):
        generation = GenerationConfig.from_pretrained(name)
        _check_generation(whisper_model, generation)
        model: WhisperForConditionalGeneration = _model(WhisperForConditionalGeneration, name, "sdpa")
        model.generation_config = generation
        return model, WhisperTokenizer.from_pretrained(name)


def load_ctc(whisper_model: str) -> CTCParts:
    """A wav2vec 2.0, HuBERT, WavLM or w2v-BERT model, with head and tokenizer if it was saved for CTC.

    Raises:
        InputError: The folder lacks a part or is damaged, weights are missing, or the hub has no such model or is out
            of reach.
    """
    name = resolve_name(whisper_model)
    check_files(Path(name))
    with _naming(whisper_model):
        config = _config(name)
        has_head = any(architecture.endswith("ForCTC") for architecture in config.architectures or ())
        model_class = CTC_CLASSES[config.model_type][0 if has_head else 1]
        attention = "eager" if config.model_type == "wavlm" else "sdpa"  # transformers has no other for WavLM
        model = _model(model_class, name, attention)
        is_bert = config.model_type == "wav2vec2-bert"
        extractor_class = SeamlessM4TFeatureExtractor if is_bert else Wav2Vec2FeatureExtractor
        extractor = extractor_class.from_pretrained(name)
        return CTCParts(model, extractor, Wav2Vec2CTCTokenizer.from_pretrained(name) if has_head else None)


def _config(name: str) -> Any:
    """A model's config; custom code in its folder is refused without a prompt."""
    return AutoConfig.from_pretrained(name, trust_remote_code=False)


def _model(model_class: Any, name: str, attention: str) -> Any:
    """A model in float32 whose tensors all come from its weights: transformers fills missing ones with random numbers.

    Raises:
        InputError: The weights lack a tensor of the model, or have one of another shape.
    """
    with _without_report():
        model, found = model_class.from_pretrained(
            name,
            dtype="float32",
            attn_implementation=attention,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, with the missing ones
            output_loading_info=True,
        )
    missing = sorted(key for key in found["missing_keys"] if not key.endswith(_NOT_READ))
    if missing:
        raise _incomplete(name, f"lack {len(missing)} tensors of the model, the first {missing[0]}")
    if mismatched := sorted(found["mismatched_keys"]):
        key, shape, needed = mismatched[0]
        shapes = f"{key}: {tuple(shape)}, not {tuple(needed)}"
        raise _incomplete(
            name, f"have {len(mismatched)} tensors of another shape than config.json says, the first {shapes}"
        )
    if unused := sorted(found["unexpected_keys"]):
        warnings.warn(
            f"the speech model {name} leaves {len(unused)} tensors of its weights unused, the first {unused[0]}",
            stacklevel=3,
        )
    return model


def _incomplete(name: str, fault: str) -> InputError:
    return InputError(
        "model.damaged",
        f"cannot load the speech model {name}: its weights {fault}; download the model again, or copy its weights and"
        " config.json again, both from one model",
        name,
    )


@contextmanager
def _without_report() -> Iterator[None]:
    """Context without transformers' table of missing and unused tensors."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)


def _check_generation(whisper_model: str, generation: GenerationConfig) -> None:
    """Raise an InputError for an empty ``generation_config.json``, by which no token would be suppressed."""
    if all(getattr(generation, field, None) is None for field in GENERATION_FIELDS):
        raise InputError(
            "model.damaged",
            f"cannot load the speech model {whisper_model}: its generation_config.json has none of"
            f" {', '.join(GENERATION_FIELDS)}, so it is none of Whisper's; copy that file again from the model that it"
            " was fine-tuned from or downloaded of",
            whisper_model,
        )


@contextmanager
def _naming(whisper_model: str) -> Iterator[None]:
    """Context that turns transformers' errors for an unloadable model into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # for an invalid config transformers raises errors of any type
        if not_loaded := torchaudio_complaint(error):
            raise InputError("package.broken", not_loaded, "torchaudio") from error
        raise InputError(
            "model.unknown",
            f"cannot load the speech model {whisper_model!r}: it must be a name such as base, small, v3 or turbo,"
            " the id of a Whisper (or a wav2vec 2.0, HuBERT, WavLM or w2v-BERT model) that this machine can reach on"
            f" the hub, or a folder saved by save_pretrained ({_reason(error)})",
            whisper_model,
        ) from error


def _reason(error: Exception) -> str:
    """First line of an error; for a failed import also its causes, which alone explain it."""
    if isinstance(error, ImportError):
        return told_with_causes(error)
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
