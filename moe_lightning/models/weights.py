"""Weights: safe reading from any source, as numbers and never as a program; atomic writing.

A pickle can run any code while it is read. So weights of experts are safetensors, and PyTorch's own files are read by
its unpickler for tensors and plain values only (``weights_only=True``).
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.system.atomic_file import whole_file, write_bytes


def write_state(state: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors by name as ``torch.save`` does, by an atomic write."""
    contents = io.BytesIO()
    torch.save(dict(state), contents)
    write_bytes(file, contents.getvalue())


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name as safetensors, by an atomic write."""
    with whole_file(file) as partial:
        save_file(dict(tensors), partial, metadata=metadata)
        partial.chmod(0o644)  # safetensors makes it readable by its owner only


def read_state(file: Path, made_by: str) -> dict[str, Tensor]:
    """Tensors by name, from a file of ``torch.save``.

    Args:
        made_by: The command that makes the file, for the message.

    Raises:
        InputError: It is missing, cut off, holds something else, or would run code while it is read.
    """
    state = _read_plain(file, made_by)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(
            "file.malformed", f"{file} must hold tensors by name and nothing else; run `{made_by}` again", file
        )
    return state


def read_checkpoint(file: Path, made_by: str) -> dict[str, Any]:
    """A Lightning checkpoint, on the CPU.

    Raises:
        InputError: As `read_state`, or it has no weights.
    """
    checkpoint = _read_plain(file, made_by)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(
            "file.malformed", f"{file} is no checkpoint with a state_dict; remove it and run `{made_by}` again", file
        )
    return checkpoint


def read_tensors(file: Path, made_by: str) -> dict[str, Tensor]:
    """Tensors by name, from a safetensors file.

    Raises:
        InputError: It is missing, cut off, or of another format.
    """
    with _naming_safetensors(file, made_by):
        return load_file(file)


def read_metadata(file: Path, made_by: str) -> dict[str, str]:
    """Metadata of a safetensors file.

    Raises:
        InputError: As `read_tensors`.
    """
    with _naming_safetensors(file, made_by), safe_open(file, framework="pt") as tensors:
        return tensors.metadata() or {}


@contextmanager
def refusing_pickles(file: object) -> Iterator[None]:
    """Context for Lightning's reading of a checkpoint; an InputError names a file with code, or without a pickle."""
    try:
        yield
    except UnpicklingError as error:
        called = _FOREIGN.search(str(error))
        what = f"holds {called[1]}, which would run as it is read" if called else "holds no tensors"
        raise InputError(
            "file.refused",
            f"{file} is refused: it {what}; only tensors and plain values are taken. Remove it, or get a file that"
            " this version wrote",
            file,
        ) from error


_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""PyTorch's name for a class or function requested by a pickle."""


def _read_plain(file: Path, made_by: str) -> Any:
    try:
        with refusing_pickles(file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the refusal is enough
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises errors of any type
        raise InputError(
            "file.unreadable", f"{file} cannot be read ({_reason(error)}); remove it and run `{made_by}` again", file
        ) from error


@contextmanager
def _naming_safetensors(file: Path, made_by: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            "file.unreadable",
            f"{file} cannot be read as safetensors ({_reason(error)}); run `{made_by}` again, or get it as safetensors",
            file,
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
