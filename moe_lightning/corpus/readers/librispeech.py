"""LibriSpeech, mini LibriSpeech, LibriTTS-like trees: ``<part>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt``.

lhotse's recipe is not used: it silently skips missing recordings, knows only the parts of the original release,
and reads every file's header one extra time.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.data.utterance import FieldValue
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import numbered_lines

_SEXES = {"m": "male", "f": "female"}


def is_librispeech(root: Path) -> bool:
    """True if root, or ``LibriSpeech`` in it, holds parts, or is a part."""
    return any(True for part in _parts(root) for _ in part.glob("*/*/*.trans.txt"))


def read_librispeech(root: Path) -> Iterator[Entry]:
    """Entries of all parts; ``train-clean-100`` is train, and the part becomes a field.

    Raises:
        InputError: A part's name contains no split, or a file cannot be read as text.
    """
    for part in _parts(root):
        genders = _genders(part.parent / "SPEAKERS.TXT")
        for transcripts in sorted(part.glob("*/*/*.trans.txt")):
            split = split_in_name(part.name)
            if split is None:
                raise InputError(
                    "corpus.unknown-form", f"{part}: the name of a part must begin with train, dev or test", part
                )
            for number, line in numbered_lines(transcripts):
                yield _entry(line, transcripts, split, part.name, genders, f"{transcripts}, line {number}")


def _parts(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    inner = root / "LibriSpeech"
    parts = sorted(path for path in (inner if inner.is_dir() else root).iterdir() if path.is_dir())
    has_chapters = any(True for _ in root.glob("*/*/*.trans.txt"))
    return [root.absolute()] if has_chapters else [part.absolute() for part in parts]


def _entry(line: str, transcripts: Path, split: str, part: str, genders: dict[str, str], origin: str) -> Entry:
    id_, _, text = line.strip().partition(" ")
    speaker, chapter = transcripts.parent.parent.name, transcripts.parent.name
    recordings = [transcripts.parent / f"{id_}{suffix}" for suffix in (".flac", ".wav", ".ogg", ".mp3")]
    fields: dict[str, FieldValue] = {"language": "en", "part": part, "chapter": chapter}
    return Entry(
        split=split,
        id=id_,
        audio_file=next((path for path in recordings if os.path.exists(path)), recordings[0]),
        text=text.strip(),
        speaker=speaker,
        origin=origin,
        fields=fields | ({"gender": genders[speaker]} if speaker in genders else {}),
    )


def _genders(speakers_file: Path) -> dict[str, str]:
    """Genders by speaker from ``SPEAKERS.TXT``: ``14 | F | train-clean-360 | ...``; comments begin with ``;``."""
    if not speakers_file.is_file():
        return {}
    lines = speakers_file.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [[column.strip() for column in line.split("|")] for line in lines if not line.startswith(";")]
    return {row[0]: _SEXES[row[1].lower()] for row in rows if len(row) > 1 and row[1].lower() in _SEXES}
