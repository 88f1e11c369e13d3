"""Pooled utterance embeddings on disk: numpy shards and the guide's mapping.json.

The folder holds ``embeddings_00000.npy`` ... (float32, one row an utterance), ``mapping.json`` with an
entry for each utterance, and ``store.json`` with what the embeddings were made of. ``mapping.json`` is
written last: a store without it is not there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from moe_lightning.errors import InputError
from moe_lightning.json_files import read_json, write_json

Pooling = Literal["mean", "mean+std", "flatten", "none"]
"""Ways to make one vector of an utterance's frames."""

_MADE_BY = "moe-lightning embed"
ROWS_PER_SHARD = 65_536


@dataclass(frozen=True)
class StoreInfo:
    """What the embeddings were made of; later stages refuse another."""

    whisper_model: str
    """As given to the command: v2, v3, nano, a hub id, a folder."""
    pooling: Pooling
    """How one vector was made of an utterance's frames."""
    pad: str
    """``batch`` or ``30s``."""


@dataclass(frozen=True)
class StoreEntry:
    """One utterance of ``mapping.json``."""

    id: str
    contributor_id: str
    """The speaker."""
    wav_filename: str
    wav_path: str
    embedding_path: str
    """The shard, relative to the store."""
    row: int
    """Row of the shard."""
    split: str
    """train, dev or test."""


@dataclass(frozen=True)
class EmbeddingStore:
    """Embeddings of a corpus, with the utterance of each row."""

    entries: tuple[StoreEntry, ...]
    embeddings_ND: np.ndarray
    info: StoreInfo | None
    """None for a folder that was not made by this project."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.entries)

    @property
    def splits_N(self) -> np.ndarray:
        return np.array([entry.split for entry in self.entries])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {entry.id: row for row, entry in enumerate(self.entries)}

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings of the given utterances, in their order, (len(ids), D).

        Raises:
            InputError: An utterance has no embedding.
        """
        missing = [id_ for id_ in ids if id_ not in self._rows]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(ids)} utterances have no embedding, the first is {missing[0]!r};"
                f" run `{_MADE_BY}` on this corpus"
            )
        return self.embeddings_ND[[self._rows[id_] for id_ in ids]]

    @classmethod
    def load(cls, folder: Path) -> "EmbeddingStore":
        """Read a store; an entry without ``split`` counts as train.

        Raises:
            MissingInputError: There is no ``mapping.json``.
            InputError: The mapping is malformed, a shard is missing or cut off, or a value is not finite.
        """
        entries = _read_entries(folder / "mapping.json")
        shards = {name: _read_shard(folder / name) for name in dict.fromkeys(entry.embedding_path for entry in entries)}
        for entry in entries:
            num_rows = len(shards[entry.embedding_path])
            if not 0 <= entry.row < num_rows:
                raise InputError(
                    f"{folder / entry.embedding_path} has {num_rows} rows, the mapping wants row {entry.row} for"
                    f" {entry.id!r}; run `{_MADE_BY}` again"
                )
        rows = [shards[entry.embedding_path][entry.row] for entry in entries]
        if len({row.shape for row in rows}) != 1:
            raise InputError(f"{folder}: embeddings differ in size; pool them with --pooling mean when they are made")
        info_file = folder / "store.json"
        info = StoreInfo(**read_json(info_file, _MADE_BY)) if info_file.exists() else None
        return cls(tuple(entries), np.stack(rows).astype(np.float32), info)

    def save(self, folder: Path) -> None:
        """Write shards, ``store.json`` and, last, ``mapping.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, start in enumerate(range(0, len(self.entries), ROWS_PER_SHARD)):
            _write_shard(folder / shard_name(number), self.embeddings_ND[start : start + ROWS_PER_SHARD])
        if self.info:
            write_json(folder / "store.json", asdict(self.info))
        write_json(folder / "mapping.json", [asdict(entry) for entry in self.entries])


def shard_name(number: int) -> str:
    return f"embeddings_{number:05d}.npy"


def shard_of(row: int) -> tuple[str, int]:
    """Shard of a row of the whole store, and the row of the shard."""
    return shard_name(row // ROWS_PER_SHARD), row % ROWS_PER_SHARD


def _write_shard(path: Path, rows_ND: np.ndarray) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, rows_ND)
    partial.replace(path)


def _read_shard(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing, though the mapping names it; run `{_MADE_BY}` again") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an array ({error}); run `{_MADE_BY}` again") from error
    if not np.isfinite(rows).all():
        raise InputError(f"{path} holds values that are not finite; run `{_MADE_BY}` again")
    return rows


def _read_entries(path: Path) -> list[StoreEntry]:
    rows = read_json(path, _MADE_BY)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} must be a list with an entry for each utterance")
    known = StoreEntry.__dataclass_fields__
    defaults = {"contributor_id": "", "wav_filename": "", "wav_path": "", "row": 0, "split": "train"}
    entries = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or "embedding_path" not in row:
            raise InputError(f'{path}: every entry needs an "id" and an "embedding_path", got {str(row)[:80]}')
        entries.append(StoreEntry(**{**defaults, **{key: row[key] for key in row if key in known}}))
    if len({entry.id for entry in entries}) != len(entries):
        raise InputError(f"{path}: an id comes more than once; every utterance needs an id of its own")
    return entries
