"""The guide's layout: ``<root>/Train|Dev[|Test]/<contributor>/<contributor>.json`` beside its audio.

The contributor's file is ``{"Etiology": str, "Files": [{"Filename": "x.wav", "Prompt": {"Transcript": str}}, ...]}``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe_lightning.corpus.entry import Entry, field_name, plain_value
from moe_lightning.data.utterance import FieldValue
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.plain_files import read_text

_SPLIT_OF_FOLDER = {"train": "train", "dev": "dev", "test": "test"}


def is_guide_layout(root: Path) -> bool:
    """True if a Train, Dev or Test folder holds a contributor's file."""
    return any(True for folder in _split_dirs(root) for _ in folder.glob("*/*.json"))


def read_guide_layout(root: Path) -> Iterator[Entry]:
    """Entries of all contributors, sorted by name.

    The id is ``<contributor>/<stem>``, so ``a.wav`` by two contributors gives two ids; if a contributor has a stem
    twice, the id uses the full file name, then also the split.

    Raises:
        InputError: A contributor's file does not have this form.
    """
    used: set[str] = set()
    for split_dir in _split_dirs(root):
        for contributor_dir in sorted(path for path in split_dir.iterdir() if path.is_dir()):
            for entry in _read_contributor(contributor_dir, split_dir.name, used):
                used.add(entry.id)
                yield entry


def _split_dirs(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    dirs = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return [dirs[name] for name in _SPLIT_OF_FOLDER if name in dirs]


def _read_contributor(folder: Path, split_name: str, used: set[str]) -> Iterator[Entry]:
    contributor = folder.name
    path = folder / f"{contributor}.json"
    record = _read_record(path)
    fields = _plain_fields(record)
    for number, file in enumerate(record["Files"], start=1):
        if not isinstance(file, dict) or not isinstance(file.get("Filename"), str) or not file["Filename"]:
            raise InputError("corpus.bad-row", f'{path}: entry {number} of "Files" has no "Filename"', path)
        prompt: Any = file.get("Prompt")
        prompt = prompt if isinstance(prompt, dict) else {}
        transcript = prompt.get("Transcript")
        name = Path(file["Filename"])
        candidates = (f"{contributor}/{name.stem}", f"{contributor}/{name.name}", f"{split_name}/{contributor}/{name}")
        yield Entry(
            split=_SPLIT_OF_FOLDER[split_name.lower()],
            id=next((id_ for id_ in candidates if id_ not in used), candidates[-1]),
            audio_file=(folder / name).absolute(),
            text=transcript.strip() if isinstance(transcript, str) else "",
            speaker=contributor,
            origin=str(path),
            fields=fields | _plain_fields(file) | _plain_fields(prompt),
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_text(path))
    except MissingInputError:
        raise InputError(
            "file.missing", f"{path} is missing; a contributor's folder holds a JSON file of the same name", path
        ) from None
    except ValueError as error:
        raise InputError("file.malformed", f"{path} cannot be read as JSON ({error})", path) from error
    if not isinstance(record, dict) or not isinstance(record.get("Files"), list):
        raise InputError("file.malformed", f'{path} must be an object with a list "Files"', path)
    return record


def _plain_fields(record: dict[str, Any]) -> dict[str, FieldValue]:
    """All plain values of a JSON object, except names with an own place in an entry."""
    taken = ("Filename", "Transcript")
    plain = {name: value for name, value in record.items() if isinstance(value, str | int | float)}
    return {field_name(name): plain_value(value) for name, value in plain.items() if name not in taken}
