"""Checks of a speech model's folder before transformers reads it: complete, undamaged, Whisper's own settings."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from moe_lightning.errors import InputError
from moe_lightning.system.json_files import parse_json, read_json_object
from moe_lightning.system.plain_files import read_text

_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_TOKENIZER_PARTS = ("vocab.json", "merges.txt")
"""Together they stand for ``tokenizer.json``."""
_JSON_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    _WEIGHTS_INDEX,
)
"""JSON objects of a folder beside ``config.json``; none has all of them."""
GENERATION_FIELDS = ("suppress_tokens", "begin_suppress_tokens", "is_multilingual")
"""Of Whisper's ``generation_config.json``; every Whisper's has at least one."""


def check_whisper_folder(folder: Path) -> None:
    """Raise an InputError for an incomplete Whisper folder; a path that is no folder passes.

    transformers replaces some missing parts by wrong defaults: without ``generation_config.json`` no token is
    suppressed, and an English-only model counts as multilingual.
    """
    if not folder.is_dir():
        return
    missing = [name for name in ("config.json", "generation_config.json") if not (folder / name).exists()]
    missing += _missing_of_tokenizer(folder)
    if not any((folder / name).exists() for name in (_WEIGHTS, _WEIGHTS_INDEX)):
        missing.append(_WEIGHTS)
    missing += [name for name in _shards(folder) if not (folder / name).exists()]
    if missing:
        pickled = (folder / "pytorch_model.bin").exists()
        hint = " (pytorch_model.bin can run code, so it is not read: save the model anew by save_pretrained)"
        raise InputError(
            "model.incomplete",
            f"cannot load the speech model {folder}: it lacks {', '.join(missing)}{hint if pickled else ''}; copy what"
            " is missing from the model that it was fine-tuned from or downloaded of",
            missing,
        )


def check_config_file(folder: Path) -> None:
    """Raise an InputError for a damaged ``config.json``; a path that is no folder passes."""
    if folder.is_dir():
        _refuse_adapter(folder)
        _check_json(folder, "config.json")


def _refuse_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise InputError(
            "model.incomplete",
            f"{folder} is an adapter of peft, not a whole speech model: merge it (merge_and_unload), and save model and"
            " tokenizer by save_pretrained",
            ["config.json"],
        )


def check_files(folder: Path) -> None:
    """Raise an InputError for a damaged file that transformers would read; a path that is no folder passes.

    Of the weights only the headers are read: they show a file that was cut short.
    """
    if not folder.is_dir():
        return
    for name in _JSON_FILES:
        _check_json(folder, name)
    for name in _shards(folder) or [_WEIGHTS]:
        _check_weights(folder, name)


def _missing_of_tokenizer(folder: Path) -> list[str]:
    if (folder / "tokenizer.json").exists():
        return []
    missing = [name for name in _TOKENIZER_PARTS if not (folder / name).exists()]
    return ["tokenizer.json"] if len(missing) == len(_TOKENIZER_PARTS) else missing


def _shards(folder: Path) -> list[str]:
    """Weight files named in the folder's index; none if the weights are in one file."""
    index = folder / _WEIGHTS_INDEX
    if (folder / _WEIGHTS).exists() or not index.exists():
        return []
    weight_map = read_json_object(index, "save_pretrained", {"weight_map": dict})["weight_map"]
    return sorted({str(name) for name in weight_map.values()})


def _check_json(folder: Path, name: str) -> None:
    if not (folder / name).exists():
        return
    try:
        is_object = isinstance(parse_json(read_text(folder / name)), dict)
    except ValueError as error:
        raise _damaged(folder, name, str(error)) from error
    if not is_object:
        raise _damaged(folder, name, "it is no JSON object")


def _check_weights(folder: Path, name: str) -> None:
    if not (folder / name).exists():
        return
    try:
        with safe_open(folder / name, framework="pt"):
            pass
    except SafetensorError as error:
        raise _damaged(folder, name, str(error)) from error


def _damaged(folder: Path, name: str, reason: str) -> InputError:
    return InputError(
        "model.damaged",
        f"cannot load the speech model {folder}: its {name} is damaged ({reason}); copy that file again from the model"
        " that it was fine-tuned from or downloaded of",
        name,
    )
