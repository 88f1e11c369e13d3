"""Manifests of one JSON object a line, as NeMo, WeNet and others write them; `columns` has the names of the keys.

NeMo: ``audio_filepath``, ``text``, ``offset``, ``duration``. WeNet (``data.list``): ``key``, ``wav``, ``txt``.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.columns import Columns, Place, entry_of, is_list_of_recordings, refuse_unknown
from moe_lightning.corpus.readers.split_names import names_of, split_in_name
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.plain_files import numbered_lines, visible

SUFFIXES = (".jsonl", ".json", ".list", ".jsonl.gz")
_MOST_LOOKED_AT = 200
"""Files of a folder whose first line is read."""


def is_jsonl(root: Path, own: Columns = ()) -> bool:
    """True for a manifest, a folder with manifests, or their prefix."""
    return bool(find_manifests(root, own)) or (root.suffix == ".jsonl" and root.is_file())


def read_jsonl_corpus(root: Path, own: Columns = ()) -> Iterator[Entry]:
    """Entries from all manifests in a folder or with a prefix, or from one file with optional splits in its rows."""
    for path, split in (find_manifests(root, own) or {root: None}).items():
        refuse_unknown(own, keys_of(path), f"the first line of {path}")
        yield from read_jsonl(path, split, own)


def read_jsonl(path: Path, split: str | None, own: Columns = ()) -> Iterator[Entry]:
    """Entries of one manifest.

    Args:
        split: The split from the file's name; None takes each row's ``split``, train by default.

    Raises:
        InputError: A line breaks the format; the message names file, line and rule.
    """
    folder = path.absolute().parent
    for number, line in numbered_lines(path):
        origin = f"{path}, line {number}"
        yield entry_of(_parse(line, origin), Place(folder, split, origin), own)


def find_manifests(root: Path, own: Columns = ()) -> dict[Path, str | None]:
    """Manifests with their splits.

    ``<root>/train.jsonl`` ... (``valid.jsonl`` ...) are taken first, or ``<root>_train.jsonl`` ... of a prefix.
    Otherwise the first line of each file with one of `SUFFIXES`, in root or its folders, tells; the split is in the
    name of the file or folder.
    """
    prefix = f"{root}/" if root.is_dir() else f"{root}_"
    plain = {split: [Path(f"{prefix}{name}.jsonl") for name in names_of(split)] for split in SPLITS}
    found: dict[Path, str | None] = {
        next(file for file in files if file.is_file()): split
        for split, files in plain.items()
        if any(file.is_file() for file in files)
    }
    if found:
        return found
    if root.is_file():
        return {root: None} if root.name.endswith(SUFFIXES) and is_list_of_recordings(keys_of(root), own) else {}
    files = sorted(path for depth in ("", "*/") for suffix in SUFFIXES for path in visible(root, f"{depth}*{suffix}"))
    manifests = [path for path in islice(files, _MOST_LOOKED_AT) if is_list_of_recordings(keys_of(path), own)]
    splits = {
        path: split_in_name(path.name) or (split_in_name(path.parent.name) if path.parent != root else None)
        for path in manifests
    }
    named: dict[Path, str | None] = {path: split for path, split in splits.items() if split}
    return named or dict.fromkeys(manifests)


def keys_of(path: Path) -> tuple[str, ...]:
    """Keys of the object in the first line; none for anything else, or for a cut of lhotse."""
    try:
        first = next(numbered_lines(path), None)
        row = parse_json(first[1]) if first else None
    except (ValueError, OSError):
        return ()
    return tuple(row) if isinstance(row, dict) and "recording" not in row else ()


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
