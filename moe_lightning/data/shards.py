"""Shards of an embedding store: atomic writes, and an index per shard that makes a restart possible.

``embeddings_00007.npy`` holds pooled vectors, one row per utterance; ``frames_00007.npy`` (if frames are kept) holds
the encoder frames of the same utterances, one after another; ``embeddings_00007.json`` holds their ids and frame
counts. This index is written last: without it a shard does not count.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from moe_lightning.errors import InputError
from moe_lightning.system.json_files import from_json, read_json, write_json
from moe_lightning.system.plain_files import refuse_special

_MADE_BY = "moe-lightning embed"
_GLOB = "embeddings_[0-9]*.json"


@dataclass(frozen=True)
class ShardIndex:
    """Index of a shard: its utterances and files."""

    number: int
    ids: list[str]
    precision: str
    """The encoder's precision in the Trainer's notation."""
    num_frames: list[int] | None = None
    """Frames of each utterance; None if frames are not kept."""
    sha256: dict[str, str] | None = None
    """Digests of the shard's files, by name, taken during writing; None in a store by an older version."""


def shard_name(number: int) -> str:
    return f"embeddings_{number:05d}.npy"


def frames_name(number: int) -> str:
    return f"frames_{number:05d}.npy"


def write_shard(
    folder: Path, index: ShardIndex, embeddings_ND: np.ndarray, frames: Sequence[np.ndarray] | None = None
) -> None:
    """Write a shard and, last, its index.

    Args:
        frames: Frames of its utterances, (T, D) each; None if they are not kept.

    Raises:
        OSError: The disk is full or refuses; half-written files are removed.
    """
    assert len(index.ids) == len(embeddings_ND)
    partials: list[Path] = []
    try:
        digests = {}
        if frames is not None:
            assert index.num_frames == [len(frames_TD) for frames_TD in frames]
            name = frames_name(index.number)
            digests[name] = _write_rows(folder / name, frames, partials)
        name = shard_name(index.number)
        digests[name] = _write_rows(folder / name, [embeddings_ND], partials)
        index_file = _index_file(folder, index.number)
        partials.append(index_file.with_name(f"{index_file.name}.partial"))
        write_json(index_file, {**asdict(index), "sha256": digests})
    except OSError as error:
        for path in partials:
            path.unlink(missing_ok=True)
        raise OSError(
            f"{folder}: a shard of {len(index.ids)} utterances cannot be written ({error.strerror or error});"
            " make room and run the same command again, the shards that are finished stay"
        ) from error


def finished_shards(folder: Path) -> list[ShardIndex]:
    """The complete shards, by number."""
    return [index for index in _indices(folder) if _is_whole(folder, index)]


def damaged_shards(folder: Path) -> list[int]:
    """Numbers of indexed shards that are no longer complete."""
    return [index.number for index in _indices(folder) if not _is_whole(folder, index)]


def written_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each array at writing time, by file name; none for a store by an older version."""
    return {name: sha256 for index in _indices(folder) for name, sha256 in (index.sha256 or {}).items()}


def unindexed_shards(folder: Path) -> list[str]:
    """Names of arrays without an index: half written, or from elsewhere."""
    return sorted(path.name for path in folder.glob("embeddings_[0-9]*.npy") if not path.with_suffix(".json").exists())


def clear_unfinished(folder: Path) -> list[int]:
    """Remove half-written files of a killed run, and damaged shards; vectors are checked by digest, frames by size.

    Returns:
        Numbers of the damaged shards.
    """
    whole = {index.number for index in finished_shards(folder) if _is_as_written(folder, index)}
    damaged = [index.number for index in _indices(folder) if index.number not in whole]
    for pattern in ("embeddings_[0-9]*", "frames_[0-9]*"):
        for path in folder.glob(pattern):
            if path.suffix == ".partial" or _number(path) not in whole:
                path.unlink()
    return damaged


def read_array(path: Path, *, in_memory: bool = True) -> np.ndarray:
    """An array of a store.

    Args:
        in_memory: Read it whole; otherwise memory-map it, so that parts are read on access.

    Raises:
        InputError: It is missing, truncated, or not a plain array of numbers.
    """
    try:
        refuse_special(path)
        array = np.load(path, allow_pickle=False, mmap_mode="r")  # compares its size with the file's
        if in_memory and isinstance(array, np.ndarray):
            array = np.array(array)
    except FileNotFoundError:
        raise InputError(
            "file.missing", f"{path} is missing, though the mapping names it; run `{_MADE_BY}` again", path
        ) from None
    except Exception as error:  # numpy raises many kinds of errors for a broken header
        raise InputError(
            "file.unreadable", f"{path} cannot be read as an array ({error}); run `{_MADE_BY}` again", path
        ) from error
    if not isinstance(array, np.ndarray) or not array.ndim or array.dtype.kind not in "fiu":
        raise InputError(
            "file.malformed", f"{path} is no array of numbers, one row an utterance; run `{_MADE_BY}` again", path
        )
    return array


def _write_rows(path: Path, arrays: Sequence[np.ndarray], partials: list[Path]) -> str:
    """Write the arrays' rows as one ``.npy`` file; ``np.save`` hides a full disk, and needs a copy.

    Returns:
        SHA-256 of the file, computed without reading it again.
    """
    partial = path.with_name(f"{path.name}.partial")
    partials.append(partial)
    header = np.lib.format.header_data_from_array_1_0(arrays[0])
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {**header, "fortran_order": False, "shape": shape})
    sha256 = hashlib.sha256(head.getvalue())
    with partial.open("wb") as file:
        file.write(head.getvalue())
        for array in arrays:
            rows = np.ascontiguousarray(array).data.cast("B")
            sha256.update(rows)
            file.write(rows)
        file.flush()
        os.fsync(file.fileno())  # some disks report that they are full only now
    partial.replace(path)
    partials.append(path)
    return sha256.hexdigest()


def _index_file(folder: Path, number: int) -> Path:
    return folder / Path(shard_name(number)).with_suffix(".json")


def _indices(folder: Path) -> Iterator[ShardIndex]:
    for file in sorted(folder.glob(_GLOB)):
        with suppress(InputError):  # truncated: the shard does not count
            index = from_json(ShardIndex, read_json(file, _MADE_BY), file)
            if index.number >= 0 and len(index.num_frames or index.ids) == len(index.ids):
                yield index


def _is_whole(folder: Path, index: ShardIndex) -> bool:
    """True if the arrays have the sizes in the index; a truncated file has not."""
    lengths = {shard_name(index.number): len(index.ids)}
    if index.num_frames is not None:
        lengths[frames_name(index.number)] = sum(index.num_frames)
    try:
        return all(len(read_array(folder / name, in_memory=False)) == length for name, length in lengths.items())
    except InputError:
        return False


def _is_as_written(folder: Path, index: ShardIndex) -> bool:
    """True if the vectors match their digest at writing time; always true for an older store without digests."""
    name = shard_name(index.number)
    expected = (index.sha256 or {}).get(name)
    with (folder / name).open("rb") as file:
        return expected is None or hashlib.file_digest(file, "sha256").hexdigest() == expected


def _number(path: Path) -> int | None:
    digits = path.name.partition("_")[2].partition(".")[0]
    return int(digits) if digits.isdigit() else None
