"""JSONL manifests in NeMo's format: one object per line with ``audio_filepath`` and ``text``.

Optional: ``offset`` and ``duration`` (seconds), ``channel`` (from 0), ``speaker``, ``id``, ``split``; other fields are
kept.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe_lightning.corpus.entry import Entry, field_name, plain_value, stand_in_speaker
from moe_lightning.corpus.readers.split_names import SPLIT_NAMES
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import is_number, parse_json
from moe_lightning.system.plain_files import numbered_lines

_OWN_PLACE = ("audio_filepath", "text", "offset", "duration", "speaker", "id", "split")


def is_jsonl(root: Path) -> bool:
    """True for a manifest, a folder with manifests, or their prefix."""
    return bool(find_manifests(root)) or (root.suffix == ".jsonl" and root.is_file())


def read_jsonl_corpus(root: Path) -> Iterator[Entry]:
    """Entries from all manifests in a folder or with a prefix, or from one file with optional splits in its rows."""
    manifests = find_manifests(root)
    for split, path in manifests.items():
        yield from read_jsonl(path, split)
    if not manifests:
        yield from read_jsonl(root, None)


def read_jsonl(path: Path, split: str | None) -> Iterator[Entry]:
    """Entries of one manifest.

    Args:
        split: The split from the file's name; None takes each row's ``split``, train by default.

    Raises:
        InputError: A line breaks the format; the message names file, line and rule.
    """
    folder = path.absolute().parent
    for number, row in _rows(path):
        origin = f"{path}, line {number}"
        audio_file = Path(_text(row, "audio_filepath", origin, required=True))
        audio_file = audio_file if audio_file.is_absolute() else folder / audio_file
        start = _seconds(row, "offset", origin)
        yield Entry(
            split=split or _split_of(row, origin),
            id=_text(row, "id", origin) or _id_from_path(audio_file, folder, start),
            audio_file=audio_file,
            text=_text(row, "text", origin).strip(),
            speaker=_text(row, "speaker", origin) or stand_in_speaker(audio_file, folder),
            origin=origin,
            start=start or 0.0,
            duration=_seconds(row, "duration", origin),
            channel=row["channel"] if _is_channel(row.get("channel")) else None,
            fields={field_name(name): plain_value(value) for name, value in row.items() if not _has_place(name, value)},
        )


def _has_place(name: str, value: Any) -> bool:
    return name in _OWN_PLACE or (name == "channel" and _is_channel(value))


def _is_channel(value: Any) -> bool:
    """True for a number from 0; another ``channel`` is a field like others."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def find_manifests(root: Path) -> dict[str, Path]:
    """``{split: file}`` of ``<root>/train.jsonl`` ..., or, if root is not a folder, ``<root>_train.jsonl`` ..."""
    prefix = f"{root}/" if root.is_dir() else f"{root}_"
    files = {split: Path(f"{prefix}{split}.jsonl") for split in SPLITS}
    return {split: file for split, file in files.items() if file.is_file()}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects; blank lines are skipped."""
    for number, line in numbered_lines(path):
        yield number, _parse(line, f"{path}, line {number}")


def _parse(line: str, origin: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InputError(
            "corpus.bad-row", f"{origin} is not JSON ({error}); one object a line is expected", origin
        ) from error
    if not isinstance(row, dict):
        raise InputError("corpus.bad-row", f"{origin} must be a JSON object, got {line.strip()[:60]}", origin)
    return row


def _text(row: dict[str, Any], name: str, origin: str, required: bool = False) -> str:
    """A field's text, "" if missing; whole numbers are accepted as ids and speakers too."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and name in ("id", "speaker"):
        value = str(value)
    if required and not value:
        raise InputError("corpus.bad-row", f'{origin} has no "{name}"', name)
    if value is not None and not isinstance(value, str):
        raise InputError("corpus.bad-row", f'{origin}: "{name}" must be a text, got {value!r}', name)
    return value or ""


def _seconds(row: dict[str, Any], name: str, origin: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if not is_number(value) or value < 0:
        raise InputError("corpus.bad-row", f'{origin}: "{name}" must be seconds, 0 or more, got {value!r}', name)
    return float(value)


def _split_of(row: dict[str, Any], origin: str) -> str:
    name = row.get("split", "train")
    if not isinstance(name, str) or name.lower() not in SPLIT_NAMES:
        raise InputError(
            "corpus.bad-row", f'{origin}: "split" must be one of {", ".join(SPLIT_NAMES)}, got {name!r}', "split"
        )
    return SPLIT_NAMES[name.lower()]


def _id_from_path(audio_file: Path, folder: Path, start: float | None) -> str:
    """``clips/a``, and ``clips/a@1.5`` for a start at 1.5 s."""
    inside = audio_file.relative_to(folder) if audio_file.is_relative_to(folder) else audio_file
    stem = inside.with_suffix("") if inside.name else inside
    return stem.as_posix() + (f"@{start:g}" if start else "")
