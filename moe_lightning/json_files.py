"""JSON that is there whole or not at all."""

import json
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
