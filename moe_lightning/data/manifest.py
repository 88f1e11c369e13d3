"""Manifests of a run: lhotse CutSets, one JSON object per line, readable by any lhotse recipe.

The reader parses the JSON itself: importing lhotse takes three seconds, and training needs only a few of its
fields.
"""

import gc
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moe_lightning.data.audio import read_header
from moe_lightning.data.utterance import AudioInfo, FieldValue, Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.plain_files import numbered_lines

_SUPERVISION_FIELDS = ("language", "gender")
"""Fields with their own place in lhotse; all others go to ``custom``."""


def write_manifest(utterances: Iterable[Utterance], path: Path) -> None:
    """Write a CutSet (``.jsonl.gz`` or ``.jsonl``) by an atomic write.

    Raises:
        InputError: The disk is full, the folder is not writable, or a recording with an unknown header cannot be read.
    """
    partial = path.with_name(f"partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_lines(partial, (json.dumps(_cut(utterance), ensure_ascii=False) for utterance in utterances))
        partial.replace(path)
    except OSError as error:
        raise InputError("file.unwritable", f"{path} cannot be written ({error.strerror or error})", path) from error
    finally:
        if partial.is_file():
            partial.unlink()


def read_manifest(path: Path) -> list[Utterance]:
    """Utterances of a CutSet; every cut must have a recording in a file and one supervision.

    Raises:
        MissingInputError: There is no such file.
        InputError: A line is not such a cut; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError("file.missing", f"{path} is missing; run `moe-lightning corpus` first", path)
    with _paused_garbage_collection():
        return list(_read_utterances(path))


@contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector: among a million new live objects it would search again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_utterances(path: Path) -> Iterator[Utterance]:
    for number, line in _numbered_lines(path):
        try:
            cut = parse_json(line)
        except ValueError as error:
            raise InputError(
                "file.malformed", f"{path}, line {number} is not JSON ({error}); one cut a line is expected", number
            ) from error
        try:
            yield _utterance(cut)
        except InputError as error:
            raise InputError(error.code, f"{path}, line {number}: {error}", error.value) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            rule = "a cut with a recording in one file and one supervision with text and speaker is expected"
            raise InputError(
                "file.malformed", f"{path}, line {number}: {rule} ({type(error).__name__}: {error})", number
            ) from error


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        yield from numbered_lines(path)
    except InputError as error:
        raise InputError(error.code, f"{error}; run `moe-lightning corpus` again", error.value) from error


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text, packed if its name ends in ``.gz``; the same lines give the same bytes."""
    with path.open("wb") as raw:
        if path.suffix != ".gz":
            raw.writelines(f"{line}\n".encode() for line in lines)
            return
        with gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as packed:  # no name, no time inside
            packed.writelines(f"{line}\n".encode() for line in lines)


def _cut(utterance: Utterance) -> dict[str, Any]:
    """The utterance in lhotse's format: a MonoCut, or a MultiCut for several channels."""
    audio = utterance.audio or read_header(utterance.audio_file)
    channels = list(range(audio.num_channels))
    channel: int | list[int] = 0 if audio.num_channels == 1 else channels
    if utterance.channel is not None:
        channel = utterance.channel
    source = {"type": "file", "channels": channels, "source": os.path.abspath(utterance.audio_file)}
    recording_id = utterance.id if not utterance.start else f"{utterance.id}-recording"
    return {
        "id": utterance.id,
        "start": utterance.start,
        "duration": utterance.duration,
        "channel": channel,
        "supervisions": [_supervision(utterance, recording_id, channel)],
        "recording": {
            "id": recording_id,
            "sources": [source],
            "sampling_rate": audio.sample_rate,
            "num_samples": audio.num_samples,
            "duration": audio.seconds,
            "channel_ids": channels,
        },
        "type": "MonoCut" if isinstance(channel, int) else "MultiCut",
    }


def _supervision(utterance: Utterance, recording_id: str, channel: int | list[int]) -> dict[str, Any]:
    own = {name: value for name in _SUPERVISION_FIELDS if isinstance(value := utterance.fields.get(name), str)}
    custom = {name: value for name, value in utterance.fields.items() if name not in own}
    supervision = {
        "id": utterance.id,
        "recording_id": recording_id,
        "start": 0.0,
        "duration": utterance.duration,
        "channel": channel,
        "text": utterance.text,
        "speaker": utterance.speaker,
        **own,
    }
    return supervision | ({"custom": custom} if custom else {})


def _utterance(cut: dict[str, Any]) -> Utterance:
    (supervision,) = cut["supervisions"]
    recording = cut["recording"]
    (source,) = recording["sources"]
    num_channels = len(source["channels"])
    channel = cut["channel"] if isinstance(cut["channel"], int) and num_channels > 1 else None
    own = {name: supervision[name] for name in _SUPERVISION_FIELDS if supervision.get(name) is not None}
    fields = own | (supervision.get("custom") or {})
    sample_rate, num_samples = recording["sampling_rate"], recording["num_samples"]
    if not all(isinstance(one, int) and 0 < one < 2**63 for one in (sample_rate, num_samples)):
        raise ValueError(f"{num_samples!r} samples at {sample_rate!r} Hz are no recording"[:200])
    return Utterance(
        id=cut["id"],
        audio_file=Path(source["source"]),
        start=float(cut["start"]),
        duration=float(cut["duration"]),
        text=supervision["text"],
        speaker=sys.intern(supervision["speaker"]),
        fields={sys.intern(_named(name)): _shared(value) for name, value in fields.items()},
        channel=channel,
        audio=AudioInfo(sample_rate, num_channels, num_samples),
    )


def _named(field: str) -> str:
    if not field.isprintable():
        raise TypeError(f"a field's name must be printable, got {field!r}")
    return field


def _shared(value: FieldValue) -> FieldValue:
    """Intern short texts to share equal values: a million utterances have few accents."""
    if not isinstance(value, FieldValue) or (isinstance(value, str) and not value.isprintable()):
        raise TypeError(f"a field must be a number or printable text, got {str(value)[:60]!r}")
    return sys.intern(value) if isinstance(value, str) and len(value) < 40 else value
