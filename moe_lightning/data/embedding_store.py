"""Utterance embeddings on disk: numpy shards and the guide's mapping.json.

The folder holds ``embeddings_00000.npy`` ... (float32, one row per utterance), ``mapping.json`` with an entry for
each utterance, and ``store.json`` with model, pooling and window; a store of frames also holds
``frames_00000.npy`` ... . ``mapping.json`` is written last: a folder without it holds no store.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moe_lightning.data.shards import ShardIndex, damaged_shards, read_array, shard_name, write_shard
from moe_lightning.data.store_info import Kind, StoreInfo
from moe_lightning.errors import InputError
from moe_lightning.settings.embedding import Pooling
from moe_lightning.system.json_files import read_json, write_json_list

__all__ = ["EmbeddingStore", "Kind", "Pooling", "StoreEntry", "StoreInfo", "is_whole_store", "shard_name", "shard_of"]

_MADE_BY = "moe-lightning embed"
MAPPING_FILE = "mapping.json"
_FILES, _NUMBERS = ("embedding_path", "frames_path"), ("row", "first_frame", "num_frames")
ROWS_PER_SHARD = 65_536
"""Shard size for a store saved in one call."""


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """One utterance of ``mapping.json``."""

    id: str
    contributor_id: str
    """The speaker."""
    wav_filename: str
    wav_path: str
    embedding_path: str
    """The shard, relative to the store."""
    row: int | None
    """Row in the shard; None if the whole file belongs to the utterance: one vector, or its frames."""
    split: str
    """train, dev or test."""
    frames_path: str | None = None
    """The shard with its frames, relative to the store; None if frames are not kept."""
    first_frame: int | None = None
    """Row in that shard."""
    num_frames: int | None = None

    def as_json(self) -> dict[str, str | int]:
        """The entry for ``mapping.json``; None values are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class EmbeddingStore:
    """A corpus's embeddings, with the utterance for each row."""

    entries: tuple[StoreEntry, ...]
    embeddings_ND: np.ndarray
    info: StoreInfo | None
    """None for a folder from another project."""
    folder: Path | None = field(default=None, compare=False)
    """Folder with the frames; None for a store not loaded from disk."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.entries)

    @property
    def splits_N(self) -> np.ndarray:
        return np.array([entry.split for entry in self.entries])

    @property
    def has_frames(self) -> bool:
        """True if the store has frames for every utterance."""
        return self.folder is not None and all(entry.frames_path is not None for entry in self.entries)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {entry.id: row for row, entry in enumerate(self.entries)}

    @cached_property
    def _frame_shards(self) -> dict[str, np.ndarray]:
        return {}

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings of the given utterances, in their order, (len(ids), D).

        Raises:
            InputError: An utterance has no embedding.
        """
        missing = [id_ for id_ in ids if id_ not in self._rows]
        if missing:
            raise InputError(
                "embeddings.missing",
                f"{len(missing)} of {len(ids)} utterances have no embedding, the first is {missing[0]!r};"
                f" run `{_MADE_BY}` on this corpus",
                missing[0],
            )
        return self.embeddings_ND[[self._rows[id_] for id_ in ids]]

    def frames_of(self, id_: str) -> np.ndarray:
        """Encoder frames of an utterance, (T, D), memory-mapped: read from disk on access.

        Raises:
            InputError: The store has no frames for it, or their shard is missing or truncated.
        """
        entry = self.entries[self._rows[id_]] if id_ in self._rows else None
        if entry is None or entry.frames_path is None or self.folder is None:
            raise InputError(
                "embeddings.no-frames",
                f"there are no frames of {id_!r}; run `{_MADE_BY} --store frames` in another --run-dir",
                id_,
            )
        if entry.frames_path not in self._frame_shards:
            self._frame_shards[entry.frames_path] = read_array(self.folder / entry.frames_path, in_memory=False)
        shard_TD = self._frame_shards[entry.frames_path]
        first, end = entry.first_frame or 0, (entry.first_frame or 0) + (entry.num_frames or 0)
        if end > len(shard_TD):
            raise InputError(
                "embeddings.shape",
                f"{self.folder / entry.frames_path} has {len(shard_TD)} frames, the mapping wants {first} to {end} for"
                f" {id_!r}; run `{_MADE_BY}` again",
                id_,
            )
        return shard_TD[first:end]

    @classmethod
    def load(cls, folder: Path) -> "EmbeddingStore":
        """Read a store; an entry without ``split`` counts as train.

        Raises:
            MissingInputError: There is no ``mapping.json``.
            InputError: The mapping is malformed, a shard is missing or truncated, or a value is not finite.
        """
        entries = _read_entries(folder / MAPPING_FILE)
        return cls(tuple(entries), _read_rows(folder, entries), StoreInfo.read(folder), folder)

    def save(self, folder: Path) -> None:
        """Write shards, ``store.json`` and, last, ``mapping.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        precision = self.info.precision if self.info else ""
        for number, start in enumerate(range(0, len(self.entries), ROWS_PER_SHARD)):
            part = slice(start, start + ROWS_PER_SHARD)
            write_shard(folder, ShardIndex(number, list(self.ids[part]), precision), self.embeddings_ND[part])
        if self.info:
            self.info.write(folder)
        write_mapping(folder, self.entries)


def write_mapping(folder: Path, entries: Sequence[StoreEntry]) -> None:
    """Write ``mapping.json``, the last file that makes a folder a store."""
    write_json_list(folder / MAPPING_FILE, (entry.as_json() for entry in entries))


def is_whole_store(folder: Path) -> bool:
    """True if the mapping is readable and all its files exist, none truncated."""
    try:
        entries = _read_entries(folder / MAPPING_FILE)
    except InputError:
        return False
    names = {name for entry in entries for name in (entry.embedding_path, entry.frames_path) if name}
    return all(os.path.isfile(folder / name) for name in names) and not damaged_shards(folder)


def shard_of(row: int) -> tuple[str, int]:
    """Shard name for a row, and the row within it, in a store saved in one call."""
    return shard_name(row // ROWS_PER_SHARD), row % ROWS_PER_SHARD


def _read_rows(folder: Path, entries: Sequence[StoreEntry]) -> np.ndarray:
    """The entries' vectors, float32, (N, D); (N, T, D) for a folder with one frame array per utterance."""
    places: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        places.setdefault(entry.embedding_path, []).append(place)
    embeddings: np.ndarray | None = None
    for name, places_n in places.items():
        shard = _read_shard(folder / name)
        owners = [entries[place] for place in places_n]
        if owners[0].row is None:
            shard = _whole_file(folder / name, shard, owners)
        rows = [entry.row or 0 for entry in owners]
        _check_rows(folder / name, len(shard), owners, rows)
        if embeddings is None:
            embeddings = np.empty((len(entries), *shard.shape[1:]), dtype=np.float32)
        if shard.shape[1:] != embeddings.shape[1:]:
            raise InputError(
                "embeddings.shape",
                f"{folder}: embeddings differ in size; pool them with --pooling mean when they are made",
                folder,
            )
        embeddings[places_n] = shard[rows]
    assert embeddings is not None
    return embeddings


def _whole_file(path: Path, array: np.ndarray, owners: Sequence[StoreEntry]) -> np.ndarray:
    """The only utterance in a file, as a shard with one row: (1, D) for a vector, (1, T, D) for frames."""
    if len(owners) > 1:
        raise InputError(
            "embeddings.shared-file",
            f"{path} belongs to {len(owners)} utterances, the first are {owners[0].id!r} and {owners[1].id!r}; give"
            ' each its own file, or a "row" of this one in the mapping',
            path,
        )
    kept = [size for size in array.shape[:-1] if size != 1]
    return array.reshape(1, *kept, array.shape[-1])


def _check_places(path: Path, row: dict[str, Any]) -> None:
    """Check types and locations: file names are texts within the store, rows are whole numbers."""
    if not isinstance(row["embedding_path"], str):
        raise InputError(
            "file.malformed",
            f'{path}: the "embedding_path" of {row["id"]!r} must be the name of a file, got {row["embedding_path"]!r}',
            row["id"],
        )
    for names, kind, words in ((_FILES, str, "the name of a file"), (_NUMBERS, int, "a whole number")):
        for name in names:
            if not isinstance(row.get(name), kind | None) or isinstance(row.get(name), bool):
                raise InputError(
                    "file.malformed",
                    f'{path}: the "{name}" of {row["id"]!r} must be {words}, got {row[name]!r}',
                    row["id"],
                )
    folder = os.path.abspath(path.parent)
    for name in _FILES:
        if "/" in (row.get(name) or "") and not os.path.abspath(path.parent / row[name]).startswith(f"{folder}/"):
            raise InputError(
                "file.malformed",
                f'{path}: the "{name}" of {row["id"]!r} must lie in {folder}, got {row[name]!r}',
                row["id"],
            )


def _check_rows(path: Path, num_rows: int, entries: Sequence[StoreEntry], rows: Sequence[int]) -> None:
    for entry, row in zip(entries, rows, strict=True):
        if not 0 <= row < num_rows:
            raise InputError(
                "embeddings.shape",
                f"{path} has {num_rows} rows, the mapping wants row {row} for {entry.id!r}; run `{_MADE_BY}` again",
                entry.id,
            )


def _read_shard(path: Path) -> np.ndarray:
    rows = read_array(path)
    if not np.isfinite(rows).all():
        raise InputError(
            "embeddings.not-finite", f"{path} holds values that are not finite; run `{_MADE_BY}` again", path
        )
    return rows


def _read_entries(path: Path) -> list[StoreEntry]:
    rows = read_json(path, _MADE_BY)
    if not isinstance(rows, list) or not rows:
        raise InputError("file.malformed", f"{path} must be a list with an entry for each utterance", path)
    known = StoreEntry.__dataclass_fields__
    defaults = {"contributor_id": "", "wav_filename": "", "wav_path": "", "row": None, "split": "train"}
    entries = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or "embedding_path" not in row:
            raise InputError(
                "file.malformed",
                f'{path}: every entry needs an "id" and an "embedding_path", got {str(row)[:80]}',
                path,
            )
        _check_places(path, row)
        entries.append(StoreEntry(**{**defaults, **{key: row[key] for key in row if key in known}}))
    if len({entry.id for entry in entries}) != len(entries):
        raise InputError(
            "corpus.id-twice", f"{path}: an id comes more than once; every utterance needs an id of its own", path
        )
    return entries
