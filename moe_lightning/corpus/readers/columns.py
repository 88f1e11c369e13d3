"""Rows of lists of recordings: the names that toolkits give to the same column, and an entry from a row."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_lightning.corpus.entry import Entry, field_name, plain_value, stand_in_speaker
from moe_lightning.corpus.readers.split_names import SPLIT_NAMES
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import is_number

Role = Literal["audio", "text", "speaker", "id", "split", "start", "end", "duration", "channel"]
NAMES: dict[Role, tuple[str, ...]] = {
    "audio": (
        *("audio_filepath", "path", "audio", "audio_path", "audio_file", "file", "filepath", "file_name", "filename"),
        *("wav", "wav_path", "wav_filename"),
    ),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text", "txt", "wrd"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "spk_id"),
    "id": ("id", "utt_id", "utterance_id", "key"),
    "split": ("split", "subset"),
    "start": ("offset", "start", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration",),
    "channel": ("channel",),
}
"""Names of each column, in lower case; the first that is there counts. Any other column becomes a field."""
Columns = tuple[tuple[Role, str], ...]
"""Own names of columns, which count before `NAMES`."""


_DECIMAL_COMMA = re.compile(r"\d+,\d+")


class Place(NamedTuple):
    """Place of a row."""

    folder: Path
    """Absolute; paths of recordings start here."""
    split: str | None
    """None takes the row's own, train by default."""
    origin: str
    """For messages: ``train.csv, line 3``."""
    is_text: bool = False
    """True for a table, whose numbers are texts too."""


def parse_columns(words: Iterable[str]) -> Columns:
    """Own columns, from ``audio=wav text=phrase``.

    Raises:
        InputError: A word is no ``ROLE=NAME``.
    """
    pairs = [word.partition("=") for word in words]
    for role, _, name in pairs:
        if role not in NAMES or not name:
            raise InputError(
                "setting.syntax",
                f"--columns takes ROLE=NAME with a role of {', '.join(NAMES)}, got {role + '=' + name!r}",
                f"--columns {role}={name}",
            )
    return tuple((role, name) for role, _, name in pairs)  # type: ignore[misc]


@lru_cache(maxsize=4096)
def roles_of(names: tuple[str, ...], own: Columns = ()) -> dict[Role, str]:
    """Column of each role among these names."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    found: dict[Role, str] = {}
    for role, known in NAMES.items():
        asked = [name for of_role, name in own if of_role == role]
        named = [name for name in asked if name in names] or [
            lower[name.lower()] for name in asked if name.lower() in lower
        ]
        likely = [lower[name] for name in known if name in lower and lower[name] not in found.values()]
        if named or likely:
            found[role] = (named or likely)[0]
    return found


NO_TEXT: tuple[Role, str] = ("text", "")
"""Among own columns: recordings without transcripts are wanted too."""


def is_list_of_recordings(names: Iterable[str], own: Columns = ()) -> bool:
    """True for columns with recordings and, unless `NO_TEXT` is among the own ones, transcripts."""
    needed = {"audio"} if NO_TEXT in own else {"audio", "text"}
    return needed <= roles_of(tuple(names), own).keys()


def refuse_unknown(own: Columns, names: Iterable[str], place: object) -> None:
    """Refuse own columns that a list does not have: another column in their place would be wrong without a word.

    Raises:
        InputError: Names the column, and those that there are.
    """
    known = list(names)
    missing = [(role, name) for role, name in own if name and name.lower() not in (one.lower() for one in known)]
    if missing:
        role, name = missing[0]
        raise InputError(
            "setting.choice",
            f"--columns {role}={name}: {place} has no column {name!r}; it has {', '.join(known) or 'none'}",
            f"--columns {role}={name}",
        )


def entry_of(row: Mapping[str, Any], place: Place, own: Columns = ()) -> Entry:
    """An entry from a row.

    Raises:
        InputError: A value cannot be used; the message names its place and column.
    """
    roles = roles_of(tuple(row), own)
    cells = {role: row.get(name) for role, name in roles.items()}
    audio_file = _audio_file(cells.get("audio"), roles, place)
    start = _seconds(cells.get("start"), roles.get("start"), place)
    end = _seconds(cells.get("end"), roles.get("end"), place)
    duration = _seconds(cells.get("duration"), roles.get("duration"), place)
    if duration is None and end is not None:
        duration = _length(start or 0.0, end, roles["end"], place.origin)
    channel = _channel(cells.get("channel"))
    used = {name for role, name in roles.items() if role != "channel" or channel is not None}
    return Entry(
        split=_split(cells.get("split"), place),
        id=_text(cells.get("id"), roles.get("id"), place.origin)
        or id_from_path(audio_file, place.folder, start, channel),
        audio_file=audio_file,
        text=_text(cells.get("text"), roles.get("text"), place.origin).strip(),
        speaker=_text(cells.get("speaker"), roles.get("speaker"), place.origin)
        or stand_in_speaker(audio_file, place.folder),
        origin=place.origin,
        start=start or 0.0,
        duration=duration,
        fields={field_name(name): plain_value(value) for name, value in row.items() if name not in used},
        channel=channel,
    )


def id_from_path(audio_file: Path, folder: Path, start: float | None = None, channel: int | None = None) -> str:
    """``clips/a``, ``clips/a@1.5`` for a start at 1.5 s, ``clips/a#1`` for channel 1."""
    inside = audio_file.relative_to(folder) if audio_file.is_relative_to(folder) else audio_file
    stem = inside.with_suffix("") if inside.name else inside
    return stem.as_posix() + (f"@{start:g}" if start else "") + (f"#{channel}" if channel is not None else "")


def plain_path(text: str) -> str:
    """A path without the variable of SpeechBrain's recipes before it."""
    text = text.strip().removeprefix("file://")
    return next((text[len(name) :] for name in ("$data_root/", "{data_root}/") if text.startswith(name)), text)


def _audio_file(value: Any, roles: Mapping[Role, str], place: Place) -> Path:
    if isinstance(value, Mapping):  # as Hugging Face writes recordings
        value = value.get("path")
    if not value:
        name = roles.get("audio", NAMES["audio"][0])
        raise InputError("corpus.bad-row", f'{place.origin} has no "{name}"', name)
    path = Path(plain_path(_text(value, roles.get("audio"), place.origin)))
    return path if path.is_absolute() else place.folder / path


def _text(value: Any, name: str | None, origin: str) -> str:
    """A text, "" if missing; whole numbers are accepted as ids and speakers too."""
    is_label = name is not None and name.lower() in (*NAMES["id"], *NAMES["speaker"])
    if isinstance(value, int) and not isinstance(value, bool) and is_label:
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise InputError("corpus.bad-row", f'{origin}: "{name}" must be a text, got {value!r}', name)
    return value or ""


def _seconds(value: Any, name: str | None, place: Place) -> float | None:
    if value is None or value == "":
        return None
    seconds = _number(value) if place.is_text else value
    if not is_number(seconds) or seconds < 0:
        raise InputError("corpus.bad-row", f'{place.origin}: "{name}" must be seconds, 0 or more, got {value!r}', name)
    return float(seconds)


def _number(text: str) -> float | None:
    """A number, also with the decimal comma of a spreadsheet."""
    try:
        return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text.strip()) else text)
    except ValueError:
        return None


def _length(start: float, end: float, name: str, origin: str) -> float:
    if end <= start:
        raise InputError("corpus.bad-row", f'{origin}: "{name}" must lie behind the start {start}, got {end}', name)
    return end - start


def _channel(value: Any) -> int | None:
    """A number from 0, also as pandas writes it (1.0), or left and right; anything else is a field like others."""
    if isinstance(value, str):
        value = _SIDES.get(value.strip().lower(), _number(value))
    if isinstance(value, bool) or not is_number(value) or value < 0 or value != int(value):
        return None
    return int(value)


_SIDES = {"left": 0, "l": 0, "right": 1, "r": 1}


def _split(value: Any, place: Place) -> str:
    """The split of a row, which must not contradict the name of its file."""
    named = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if named and place.split and named != place.split:
        raise InputError(
            "corpus.bad-row",
            f'{place.origin}: "split" is {value}, and the name of the file or its folder says {place.split}; rename it,'
            " or remove the column",
            "split",
        )
    if named or place.split or value in (None, ""):
        return named or place.split or "train"
    raise InputError(
        "corpus.bad-row", f'{place.origin}: "split" must be one of {", ".join(SPLIT_NAMES)}, got {value!r}', "split"
    )
