"""Common Voice in Mozilla's layout: ``train.tsv``, ``dev.tsv``, ``test.tsv`` beside ``clips/``.

lhotse's recipe is not used: it silently skips missing clips, and drops most columns.
"""

from collections.abc import Iterator
from pathlib import Path

from moe_lightning.corpus.entry import Entry, field_name, stand_in_speaker
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import numbered_lines

_OWN_PLACE = ("client_id", "path", "sentence")
_NEEDED = {"path", "sentence"}


def is_common_voice(root: Path) -> bool:
    """True for a release of one language at root, or of several in its folders."""
    return bool(_language_dirs(root))


def read_common_voice(root: Path) -> Iterator[Entry]:
    """Entries of all languages; without train, dev or test tables, ``validated.tsv`` is read as train.

    Raises:
        InputError: A table has no column ``path`` or ``sentence``, or a line has too few.
    """
    for folder in _language_dirs(root):
        tables = {split: folder / f"{split}.tsv" for split in SPLITS if (folder / f"{split}.tsv").is_file()}
        for split, table in (tables or {"train": folder / "validated.tsv"}).items():
            yield from _read_table(table, split)


def _language_dirs(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    candidates = [root, *(path for depth in ("*", "*/*") for path in sorted(root.glob(depth)) if path.is_dir())]
    return [
        path
        for path in candidates
        if (path / "clips").is_dir() and any((path / f"{name}.tsv").is_file() for name in (*SPLITS, "validated"))
    ]


def _read_table(table: Path, split: str) -> Iterator[Entry]:
    lines = numbered_lines(table)
    heads = next(lines, (1, ""))[1].split("\t")
    if not set(heads) >= _NEEDED:
        raise InputError("corpus.bad-row", f"{table}: the first line must name the columns path and sentence", table)
    for number, line in lines:  # no quoting: sentences hold single quotation marks
        yield _entry(dict(zip(heads, line.split("\t"), strict=False)), table, split, f"{table}, line {number}")


def _entry(row: dict[str, str], table: Path, split: str, origin: str) -> Entry:
    name = row.get("path")
    if not name or "sentence" not in row:
        raise InputError("corpus.bad-row", f"{origin} has no path, or too few columns", origin)
    name = name if Path(name).suffix else f"{name}.mp3"  # the first releases name clips without it
    audio_file = table.parent.absolute() / "clips" / name
    columns = {field_name(key): value for key, value in row.items() if key and key not in _OWN_PLACE and value}
    return Entry(
        split=split,
        id=Path(name).stem,
        audio_file=audio_file,
        text=row["sentence"].strip(),
        speaker=row.get("client_id") or stand_in_speaker(audio_file, table.parent.absolute()),
        origin=origin,
        fields={"language": columns.get("locale", table.parent.name), **columns},
    )
