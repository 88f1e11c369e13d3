"""JSON files: checked reading, atomic writing."""

import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.system.atomic_file import whole_file
from moe_lightning.system.plain_files import read_text

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
        raise MissingInputError("file.missing", f"{path} is missing; run `{made_by}` first", path) from None
    except ValueError as error:
        raise InputError(
            "file.malformed", f"{path} cannot be read as JSON ({error}); run `{made_by}` again", path
        ) from error


def read_json_object(path: Path, made_by: str, needed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Contents of a JSON file with one object.

    Args:
        needed: Required names, each with the type of its value.
    """
    value = read_json(path, made_by)
    if not isinstance(value, dict):
        raise InputError("file.malformed", f"{path} must be a JSON object; run `{made_by}` again", path)
    for name, kind in (needed or {}).items():
        if not isinstance(value.get(name), kind):
            raise InputError("file.malformed", f'{path} has no usable "{name}"; run `{made_by}` again', name)
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


T = TypeVar("T")
MAX_INT = 2**53
"""Larger whole numbers are not exact in every JSON parser (RFC 8259, section 6)."""


def from_json(kind: type[T], values: Any, where: object) -> T:
    """A dataclass or NamedTuple, and those in it, from a JSON object; unknown names are ignored.

    Args:
        where: Source of the values, for messages.

    Raises:
        InputError: It is not an object, lacks a field without a default, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError("file.malformed", f"{where} must be a JSON object, got {_shown(values)}", where)
    hints = _hints(cast(Hashable, kind))
    own = {name: _read(hints[name], values[name], name, where) for name in hints if name in values}
    try:
        return kind(**own)
    except TypeError as error:
        raise InputError(
            "file.malformed", f"{where} lacks a value ({str(error).partition(') ')[2] or error})", where
        ) from error


def _read(hint: Any, value: Any, name: str, where: object) -> Any:
    """One value of a JSON object, as its type hint says."""
    origin, parts = get_origin(hint), get_args(hint)
    if _is_record(hint):
        return value if isinstance(value, hint) else from_json(hint, value, f"{where}, {name}")
    if origin in (Union, UnionType) and value is not None:
        own = next((part for part in parts if _is_record(part) or fits(value, part)), None)
        if own is not None:
            return _read(own, value, name, where)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _read(parts[1], one, key, f"{where}, {name}") for key, one in value.items()}
    if not fits(value, hint):
        raise InputError("file.malformed", f"{where}: {name} must be {_described(hint)}, got {_shown(value)}", name)
    return tuple(value) if origin is tuple else value


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields"))


def as_json(value: Any) -> Any:
    """Dataclasses and NamedTuples as JSON objects; a None that is a field's default is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        defaults: Mapping[str, Any] = {one.name: one.default for one in dataclass_fields(value)}
        pairs = [(name, getattr(value, name)) for name in defaults]
    elif hasattr(value, "_asdict"):
        defaults, pairs = value._field_defaults, list(value._asdict().items())
    elif isinstance(value, Mapping):
        return {name: as_json(one) for name, one in value.items()}
    else:
        return [as_json(one) for one in value] if isinstance(value, list | tuple) else value
    return {name: as_json(one) for name, one in pairs if not (one is None and defaults.get(name, 0) is None)}


def fits(value: Any, hint: Any) -> bool:
    """True if a JSON value matches a type hint; a whole number is also a float, a list also a tuple or a sequence."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int | NoneType) and value in parts
    if origin is tuple and Ellipsis not in parts:
        return isinstance(value, list | tuple) and len(value) == len(parts) and all(map(fits, value, parts))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(fits(one, parts[0]) for one in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(one, parts[1]) for one in value.values())
    if hint in (int, float):
        return is_number(value) and (hint is float or isinstance(value, int))
    return isinstance(value, hint)


def is_number(value: Any) -> TypeGuard[int | float]:
    """True for a finite number; whole numbers up to `MAX_INT` in size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -MAX_INT <= value <= MAX_INT if isinstance(value, int) else math.isfinite(value)


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _described(hint: Any) -> str:
    if isinstance(hint, type):
        return hint.__name__
    origin = get_origin(hint)
    return (
        "an object" if origin in (dict, Mapping) else str(hint).replace("typing.", "").replace("collections.abc.", "")
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
