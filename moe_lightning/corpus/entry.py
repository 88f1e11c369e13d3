"""Utterances as listed by a corpus, before their audio is checked."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_lightning.data.utterance import UNKNOWN_SPEAKER, FieldValue
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import is_number


@dataclass(frozen=True, slots=True)
class Entry:
    """An utterance as the corpus describes it; `probe` turns it into an `Utterance` or refuses it with a reason."""

    split: str
    """train, dev or test, from the corpus."""
    id: str
    audio_file: Path
    """Absolute."""
    text: str
    """May still be empty."""
    speaker: str
    origin: str
    """Place in the corpus, for messages: ``train.jsonl, line 3``."""
    start: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None is to the end of the file."""
    fields: dict[str, FieldValue] = field(default_factory=dict)
    channel: int | None = None
    """None is the mean of all channels."""


def stand_in_speaker(audio_file: Path, root: Path) -> str:
    """Name for an unnamed speaker: the folder of the recording, ``unknown:clips``.

    Recordings of one person often share a folder, and those in one folder may be of one person. So the folder counts
    as one speaker in the splits: no folder is divided.
    """
    folder = audio_file.parent
    name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    return UNKNOWN_SPEAKER + name


def plain_value(value: Any) -> FieldValue:
    """A field's value as one plain value; a list, an object, or a number too large for a float becomes text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and (is_number(value) or isinstance(value, bool | float)):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        raise InputError("corpus.bad-row", "a field is nested too deeply") from None


def field_name(name: str) -> str:
    """A field's name in our spelling: ``Contributor ID`` -> ``contributor_id``."""
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower()
