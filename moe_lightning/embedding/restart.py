"""Restart of an embedding run: checks and cleans the store's folder first, writes the mapping for all shards last."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from moe_lightning.data.embedding_store import MAPPING_FILE, StoreEntry, StoreInfo, write_mapping
from moe_lightning.data.shards import (
    ShardIndex,
    clear_unfinished,
    finished_shards,
    frames_name,
    read_array,
    shard_name,
    unindexed_shards,
)
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError


class Place(NamedTuple):
    """Position of an utterance in a store."""

    number: int
    """Shard number."""
    row: int
    first_frame: int | None = None
    num_frames: int | None = None


def prepare_folder(folder: Path, info: StoreInfo) -> None:
    """Prepare the folder for more shards; until `finish_store` it holds no store.

    Raises:
        InputError: As `check_folder`.
    """
    check_folder(folder, info)
    for number in clear_unfinished(folder):
        print(f"note: {folder / shard_name(number)} was damaged; its utterances are embedded again")
    (folder / MAPPING_FILE).unlink(missing_ok=True)
    info.write(folder)


def check_folder(folder: Path, info: StoreInfo) -> None:
    """Check that a store may be completed in the folder; changes nothing.

    Raises:
        InputError: It holds embeddings of another kind or from elsewhere.
    """
    if (folder / MAPPING_FILE).exists() and unindexed_shards(folder):
        raise InputError(
            "folder.taken",
            f"{folder} holds embeddings that this command did not write; choose another --run-dir, or move them away",
            folder,
        )
    before = StoreInfo.read(folder)
    if before and finished_shards(folder):
        _check_same(folder, before, info)


def finish_store(folder: Path, splits: Sequence[tuple[str, Utterance]], info: StoreInfo) -> None:
    """Write ``mapping.json`` over the shards of all ranks and runs.

    Raises:
        InputError: An utterance is in no shard.
    """
    shards = finished_shards(folder)
    precisions = sorted({shard.precision for shard in shards})
    replace(info, precision=", ".join(precisions)).write(folder)
    places = dict(place for shard in shards for place in _places(shard))
    missing = [utterance.id for _, utterance in splits if utterance.id not in places]
    if missing:
        raise InputError(
            "embeddings.missing",
            f"{folder} lacks {len(missing)} embeddings, the first of {missing[0]!r}; run the same command again",
            missing[0],
        )
    entries = [_entry(split, utterance, places[utterance.id]) for split, utterance in splits]
    write_mapping(folder, entries)
    size = read_array(folder / entries[0].embedding_path, in_memory=False).shape[1]
    print(f"embedding: {len(entries)} utterances x {size} in {folder}")


def _check_same(folder: Path, before: StoreInfo, info: StoreInfo) -> None:
    pairs = [(one.name, one.mine, one.theirs) for one in before.differences(info)]
    pairs += [
        (name, str(getattr(before, name)), str(getattr(info, name)))
        for name in ("kind", "frames_dtype")
        if getattr(before, name) != getattr(info, name)
    ]
    if pairs:
        words = ", ".join(f"{name} was {then}, now {now}" for name, then, now in pairs)
        raise InputError(
            "embeddings.other",
            f"{folder} holds other embeddings: {words}; choose another --run-dir, or remove the folder",
            folder,
        )


def _places(shard: ShardIndex) -> Iterator[tuple[str, Place]]:
    if shard.num_frames is None:
        yield from ((id_, Place(shard.number, row)) for row, id_ in enumerate(shard.ids))
        return
    firsts = accumulate(shard.num_frames, initial=0)
    for row, (id_, first, num_frames) in enumerate(zip(shard.ids, firsts, shard.num_frames, strict=False)):
        yield id_, Place(shard.number, row, first, num_frames)


def _entry(split: str, utterance: Utterance, place: Place) -> StoreEntry:
    return StoreEntry(
        id=utterance.id,
        contributor_id=utterance.speaker,
        wav_filename=utterance.audio_file.name,
        wav_path=str(utterance.audio_file),
        embedding_path=shard_name(place.number),
        row=place.row,
        split=split,
        frames_path=None if place.num_frames is None else frames_name(place.number),
        first_frame=place.first_frame,
        num_frames=place.num_frames,
    )
