"""JSON that is there whole or not at all."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moe_lightning.errors import InputError, MissingInputError


def read_json(path: Path, made_by: str) -> Any:
    """Contents of a JSON file.

    Args:
        made_by: The command that makes the file, for the message when it is missing.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInputError(f"{path} is missing; run `{made_by}` first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); run `{made_by}` again") from error


def write_json(path: Path, contents: Any) -> None:
    """Write a JSON file so that a crash leaves the old one or the new one, never half of it."""
    _replace(path, json.dumps(contents, indent=1, ensure_ascii=False))


def write_json_list(path: Path, rows: Iterable[Any]) -> None:
    """The same of a list, one element a line: a million of them are written in seconds."""
    _replace(path, "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
