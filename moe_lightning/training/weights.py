"""Weights that somebody else may have written: read as numbers, never as a program.

A pickle can run anything as it is read. So weights of experts are safetensors, and PyTorch's own files are read by its
unpickler that knows tensors and plain values only (``weights_only=True``).
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from moe_lightning.errors import InputError


def read_state(file: Path, made_by: str) -> dict[str, Tensor]:
    """Tensors by name, of a file of ``torch.save``.

    Args:
        made_by: The command that makes the file, for the message.

    Raises:
        InputError: It is cut off, holds something else, or would run code as it is read.
    """
    state = _read_plain(file, made_by)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{file} must hold tensors by name and nothing else; run `{made_by}` again")
    return state


def read_checkpoint(file: Path, made_by: str) -> dict[str, Any]:
    """A checkpoint of Lightning's, on the CPU.

    Raises:
        InputError: As `read_state`, or it has no weights.
    """
    checkpoint = _read_plain(file, made_by)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{file} is no checkpoint with a state_dict; remove it and run `{made_by}` again")
    return checkpoint


def read_tensors(file: Path, made_by: str) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file.

    Raises:
        InputError: It is missing, cut off, or of another format.
    """
    with _naming_safetensors(file, made_by):
        return load_file(file)


def read_metadata(file: Path, made_by: str) -> dict[str, str]:
    """The texts beside the tensors of a safetensors file.

    Raises:
        InputError: As `read_tensors`.
    """
    with _naming_safetensors(file, made_by), safe_open(file, framework="pt") as tensors:
        return tensors.metadata() or {}


@contextmanager
def refusing_pickles(file: object) -> Iterator[None]:
    """Around Lightning's reading of a checkpoint: one that would run code, or is no pickle at all, is named."""
    try:
        yield
    except UnpicklingError as error:
        called = _FOREIGN.search(str(error))
        what = f"holds {called[1]}, which would run as it is read" if called else "holds no tensors"
        raise InputError(
            f"{file} is refused: it {what}; only tensors and plain values are taken. Remove it, or get a file that"
            " this version wrote"
        ) from error


_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""How PyTorch names a class or function that a pickle asks for."""


def _read_plain(file: Path, made_by: str) -> Any:
    try:
        with refusing_pickles(file), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; the refusal says enough
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a spoilt archive raises whatever its parts raise
        raise InputError(f"{file} cannot be read ({_reason(error)}); remove it and run `{made_by}` again") from error


@contextmanager
def _naming_safetensors(file: Path, made_by: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read as safetensors ({_reason(error)}); run `{made_by}` again, or get it as safetensors"
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
