"""What a finished run has come to, so that two of them can be compared bit for bit."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.run.folder import RunDir

_LEFT_OUT = (
    "*.lock",
    "*.partial",
    "*.log",
    "*.html",
    "events.out.*",
    "*.png",
    "stage.json*",
    "previous.ckpt",
    "README.md",
)
_FOLDERS_LEFT_OUT = ("tensorboard", "embeddings")
_TIMES = ("seconds", "started", "environment", "cost", "real_time_factor", "run", "time", "generated", "memory")
"""Words in the names of JSON values that no two runs share."""


def outcome(path: Path, damaged: Collection[str] = ()) -> dict[str, str]:
    """A digest of each file that holds results, by its name in the run, and of the embeddings and the order.

    Args:
        damaged: Files whose bytes are compared, for they may not be readable.
    """
    run = RunDir(path)
    digests = {folder.name: _store(EmbeddingStore.load(folder)) for folder in run.embedding_dirs()}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        is_left_out = any(file.match(pattern) for pattern in _LEFT_OUT) or name.parts[0] in _FOLDERS_LEFT_OUT
        if file.is_file() and not is_left_out:
            digests[str(name)] = _sha256(file.read_bytes()) if str(name) in damaged else _digest(file)
    for places in sorted(path.parent.glob("*.places")):
        digests[places.name] = _text("\n".join(sorted(set(places.read_text().splitlines()))))
    return digests


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of what differs, or is there only once."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def _digest(file: Path) -> str:
    if file.suffix == ".safetensors":
        return _tensors(load_file(file))
    if file.suffix == ".pt":
        return _tensors(torch.load(file, weights_only=True))
    if file.suffix == ".ckpt":
        checkpoint = torch.load(file, weights_only=True)
        return _tensors(_flat({name: checkpoint[name] for name in ("state_dict", "optimizer_states", "lr_schedulers")}))
    if file.suffix == ".json":
        return _text(json.dumps(_without_times(json.loads(file.read_text())), sort_keys=True))
    return _sha256(file.read_bytes())


def _store(store: EmbeddingStore) -> str:
    return _text(" ".join(store.ids)) + hashlib.sha256(np.ascontiguousarray(store.embeddings_ND)).hexdigest()


def _tensors(tensors: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    return digest.hexdigest()


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, dict):
        return {key: one for part, value in values.items() for key, one in _flat(value, f"{name}.{part}").items()}
    if isinstance(values, list | tuple):
        return _flat(dict(enumerate(values)), name)
    return {name: values}


def _without_times(values: Any) -> Any:
    if isinstance(values, dict):
        return {
            name: _without_times(value)
            for name, value in values.items()
            if not any(word in name.split("_") or word == name for word in _TIMES)
        }
    return [_without_times(value) for value in values] if isinstance(values, list) else values


def _text(text: str) -> str:
    return _sha256(text.encode())


def _sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
