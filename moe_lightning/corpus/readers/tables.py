"""Tables of recordings: CSV and TSV with a header, as spreadsheets, SpeechBrain and audiofolders have; LJSpeech.

The separator is the one that makes a recording and a text out of the first line. Tab-separated texts are not quoted,
except where a whole cell is.
"""

import csv
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.columns import (
    Columns,
    Place,
    entry_of,
    is_list_of_recordings,
    plain_path,
    refuse_unknown,
    roles_of,
)
from moe_lightning.corpus.readers.paired import AUDIO_SUFFIXES
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.data.audio import OTHER_SUFFIXES
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import as_on_disk, numbered_lines, visible

SUFFIXES = (".csv", ".tsv", ".psv")
_SEPARATORS = ("\t", ",", ";", "|")
_FOLDERS = ("", "clips", "wavs", "wav", "audio", "data")
"""Folders beside a table in which its recordings are looked for."""
_AUDIO_SUFFIXES = ("", ".wav", ".flac", ".mp3", ".ogg", ".opus")
MOST_CELL = 2**20
"""Characters of a cell; csv refuses more."""


def is_table(root: Path, own: Columns = ()) -> bool:
    """True for a table, or a folder with tables, of recordings and texts."""
    return bool(find_tables(root, own))


def read_tables(root: Path, own: Columns = ()) -> Iterator[Entry]:
    """Entries of a table, or of all tables of a folder.

    Raises:
        InputError: A folder has several tables and no splits in their names, or a row cannot be used.
    """
    tables = find_tables(root, own)
    if len(tables) > 1 and not all(tables.values()):
        raise InputError(
            "corpus.unknown-form",
            f"{root} has several tables ({', '.join(sorted(table.name for table in tables))}); name them train, dev and"
            " test, or give the path of one",
            root,
        )
    for table, split in tables.items():
        yield from _read_table(table, split, own)


def _warn_of_others(tables: Iterable[Path], read: Mapping[Path, str | None]) -> None:
    others = [table.name for table in tables if table not in read]
    if others:
        warnings.warn(f"not read, because no split is in their names: {', '.join(others)}", stacklevel=2)


def find_tables(root: Path, own: Columns = ()) -> dict[Path, str | None]:
    """Tables with their splits, from the name of the file or, for ``metadata.csv``, of its folder."""
    if root.is_file():
        return {root: None} if root.suffix.lower() in SUFFIXES and _separator(root, own) else {}
    files = sorted(path for path in visible(root, "*") if path.suffix.lower() in SUFFIXES)
    files += sorted(path for path in visible(root, "*/metadata.*") if path.suffix.lower() in SUFFIXES)
    tables = [path for path in files if _separator(path, own)]
    splits = {path: split_in_name(path.name) or _split_of_folder(path, root) for path in tables}
    named: dict[Path, str | None] = {path: split for path, split in splits.items() if split}
    found = named or dict.fromkeys(tables)
    _warn_of_others(tables, found)
    return found


def _split_of_folder(path: Path, root: Path) -> str | None:
    return split_in_name(path.parent.name) if path.parent != root else None


def _separator(table: Path, own: Columns) -> str | None:
    """Separator of the cells; None for no table of recordings and texts."""
    first = _first_line(table)
    for separator in _SEPARATORS:
        if is_list_of_recordings(_cells(first, separator), own):
            return separator
    return "|" if _is_ljspeech(table, first) else None


def heads_of(table: Path) -> tuple[str, ...]:
    """Columns of the first line, by the separator that makes most of them."""
    rows = [_cells(_first_line(table).strip(), separator) for separator in _SEPARATORS]
    return tuple(sorted(rows, key=len)[-1])


def _first_line(table: Path) -> str:
    """The first line; "" for a file that cannot be read. One in another encoding is an InputError."""
    try:
        return next(numbered_lines(table), (1, ""))[1]
    except (InputError, OSError) as error:
        if isinstance(error, InputError) and error.code == "file.encoding":
            raise
        return ""


def _is_ljspeech(table: Path, first: str) -> bool:
    """``ID|text|normalised text`` without a header, and ``wavs/ID.wav``."""
    cells = first.split("|")
    return 2 <= len(cells) <= 3 and (table.parent / "wavs" / f"{cells[0]}.wav").is_file()


def _cells(line: str, separator: str) -> list[str]:
    return [_unquoted(cell) for cell in line.split(separator)]


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _read_table(table: Path, split: str | None, own: Columns) -> Iterator[Entry]:
    separator = _separator(table, own)
    assert separator is not None
    rows = _rows(table, separator)
    number, heads = next(rows)
    if not is_list_of_recordings(heads, own):  # LJSpeech
        heads, rows = ["id", "raw_text", "text"], _rows(table, separator)
    refuse_unknown(own, heads, table)
    folder = table.absolute().parent
    found: tuple[Path, str] | None = None
    for number, cells in rows:
        origin = f"{table}, line {number}"
        if len(cells) != len(heads) and not (len(cells) == 2 and heads[1] == "raw_text"):
            raise InputError(
                "corpus.bad-row", f"{origin} has {len(cells)} columns, the first line {len(heads)}", origin
            )
        row = dict(zip(heads, cells, strict=False))
        row = {**row, "audio": f"wavs/{row['id']}.wav", "text": cells[-1]} if heads[1] == "raw_text" else row
        name = roles_of(tuple(row), own)["audio"]
        path = plain_path(row[name])
        found = found or _base(folder, path)
        base, suffix = found or (folder, "")
        row[name] = str(base / f"{path}{suffix}") if path else ""
        yield entry_of(row, Place(folder, split, origin, is_text=True), own)


def _rows(table: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; a quoted cell of a CSV may hold separators and line breaks.

    Raises:
        InputError: Quotation marks that are opened and not closed, or not doubled inside of a cell: rows would
            vanish in them.
    """
    if separator in "\t|":
        for number, line in numbered_lines(table):
            yield number, _cells(line.rstrip("\r\n"), separator)
        return
    csv.field_size_limit(MOST_CELL)
    number, width = 0, 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in numbered_lines(table):  # noqa: B007
            yield f"{line}\n"

    try:
        for cells in csv.reader(lines(), delimiter=separator, skipinitialspace=True, strict=True):
            width = width or len(cells)
            if swallowed := [cell for cell in cells if _holds_rows(cell, separator, width)]:
                raise csv.Error(f"a quotation mark before {swallowed[0][:30]!r} is not closed in its row")
            yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(
            "corpus.bad-row",
            f"{table}, line {number} is no line of a table ({error}); a quotation mark inside of a cell is doubled, and"
            " the cell is quoted",
            number,
        ) from error


def _holds_rows(cell: str, separator: str, width: int) -> bool:
    """True if a later line of a cell looks like a row of its own: as many columns, and a recording among them."""
    rows = (line.split(separator) for line in cell.splitlines()[1:])
    return any(len(row) >= width and any(_looks_like_audio(one) for one in row) for row in rows)


def _looks_like_audio(cell: str) -> bool:
    return Path(cell.strip().strip('"')).suffix.lower() in (*AUDIO_SUFFIXES, *OTHER_SUFFIXES)


def _base(folder: Path, name: str) -> tuple[Path, str] | None:
    """Folder and missing suffix of the recordings, by the first one that is there; None if this one is nowhere."""
    for inside in _FOLDERS:
        for suffix in _AUDIO_SUFFIXES:
            if as_on_disk(folder / inside / f"{name}{suffix}").is_file():
                return folder / inside, suffix
    return None
