"""What a reader finds, before anybody has looked at the audio."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_lightning.corpus.utterance import FieldValue
from moe_lightning.errors import InputError
from moe_lightning.from_json import is_number

UNKNOWN_SPEAKER = "unknown:"
"""Begins the name that stands in for a speaker whom the corpus does not name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An utterance as the corpus describes it; `probe` makes an `Utterance` of it, or says why not."""

    split: str
    """train, dev or test, as the corpus says."""
    id: str
    audio_file: Path
    """Absolute."""
    text: str
    """May still be empty."""
    speaker: str
    origin: str
    """Where the corpus says so, for messages: ``train.jsonl, line 3``."""
    start: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None is to the end of the file."""
    fields: dict[str, FieldValue] = field(default_factory=dict)
    channel: int | None = None
    """None is the mean of all channels."""


def stand_in_speaker(audio_file: Path, root: Path) -> str:
    """Name for an unnamed speaker: the folder of the recording, ``unknown:clips``.

    Recordings of one person often share a folder, and those of one folder may be one person. So the
    folder counts as one speaker when splits are made: nobody in it can be in two of them.
    """
    folder = audio_file.parent
    name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    return UNKNOWN_SPEAKER + name


def plain_value(value: Any) -> FieldValue:
    """What a corpus says in a field as one value: a list or an object, and a number too large for a float, as text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and (is_number(value) or isinstance(value, bool | float)):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        raise InputError("a field is nested too deeply") from None


def field_name(name: str) -> str:
    """A field's name in our spelling: ``Contributor ID`` -> ``contributor_id``."""
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower()
