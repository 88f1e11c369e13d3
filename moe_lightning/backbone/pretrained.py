"""From the name of a speech model to the model: short names, hub ids, folders."""

import logging
from pathlib import Path

from transformers import GenerationConfig, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.utils import logging as hf_logging

from moe_lightning.errors import InputError

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; the error itself says enough
hf_logging.disable_progress_bar()  # a bar of weights says nothing that a person waits for
SHORT_NAMES = {"v2": "openai/whisper-large-v2", "v3": "openai/whisper-large-v3"}
NANO_DIR = Path(__file__).parent / "nano" / "weights"


def resolve_name(whisper_model: str) -> str:
    """The hub id or the folder that a name stands for: v2, v3, nano, a hub id, a folder."""
    if whisper_model == "nano":
        return str(NANO_DIR)
    return SHORT_NAMES.get(whisper_model, whisper_model)


def load_whisper(whisper_model: str) -> tuple[WhisperForConditionalGeneration, WhisperTokenizer]:
    """A Whisper model in float32, and its tokenizer.

    Raises:
        InputError: The folder is no Whisper model, or the hub has none of that name or is out of reach.
    """
    name = resolve_name(whisper_model)
    try:
        model = WhisperForConditionalGeneration.from_pretrained(
            name, dtype="float32", attn_implementation="sdpa", use_safetensors=True
        )
        tokenizer = WhisperTokenizer.from_pretrained(name)
        model.generation_config = GenerationConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"cannot load the speech model {whisper_model!r}: it must be v2, v3, nano, the id of a Whisper model"
            f" that this machine can reach on the hub, or a folder saved by save_pretrained ({_first_line(error)})"
        ) from error
    return model, tokenizer


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
