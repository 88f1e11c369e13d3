"""JSON files: checked reading, atomic writing."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.faults.whole_file import whole_file
from moe_lightning.plain_files import read_text

_HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
"""A surrogate escape, text only as one of a pair."""


def parse_json(text: str) -> Any:
    """Parse JSON whose text can be written again.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or has an unpaired surrogate escape such as ``\\ud83d``.
    """
    try:
        value = json.loads(text)
        if _HALF_A_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def read_json(path: Path, made_by: str) -> Any:
    """Contents of a JSON file.

    Args:
        made_by: The command that makes the file, for error messages.
    """
    try:
        return parse_json(read_text(path))
    except MissingInputError:
        raise MissingInputError(f"{path} is missing; run `{made_by}` first") from None
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); run `{made_by}` again") from error


def read_json_object(path: Path, made_by: str, needed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Contents of a JSON file with one object.

    Args:
        needed: Required names, each with the type of its value.
    """
    value = read_json(path, made_by)
    if not isinstance(value, dict):
        raise InputError(f"{path} must be a JSON object; run `{made_by}` again")
    for name, kind in (needed or {}).items():
        if not isinstance(value.get(name), kind):
            raise InputError(f'{path} has no usable "{name}"; run `{made_by}` again')
    return value


def write_json(path: Path, contents: Any) -> None:
    """Write a JSON file by an atomic write: a crash leaves the old file or the new one."""
    _replace(path, json.dumps(contents, indent=1, ensure_ascii=False))


def write_json_list(path: Path, rows: Iterable[Any]) -> None:
    """Write a list by an atomic write, one element per line; a million elements take seconds."""
    _replace(path, "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")


def _replace(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
