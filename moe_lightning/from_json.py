"""Dataclasses from untrusted JSON: every value is checked against the type of its field."""

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from moe_lightning.errors import InputError

T = TypeVar("T")
MAX_INT = 2**53
"""Larger whole numbers are not exact in every JSON parser (RFC 8259, section 6)."""


def from_json(kind: type[T], values: Any, where: object) -> T:
    """A dataclass or NamedTuple from a JSON object; unknown names are ignored.

    Args:
        where: Source of the values, for messages.

    Raises:
        InputError: It is not an object, lacks a field without a default, or a value has the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be a JSON object, got {_shown(values)}")
    hints = _hints(cast(Hashable, kind))
    own = {name: values[name] for name in hints if name in values}
    for name, value in own.items():
        if not fits(value, hints[name]):
            raise InputError(f"{where}: {name} must be {_described(hints[name])}, got {_shown(value)}")
        if get_origin(hints[name]) is tuple:
            own[name] = tuple(value)
    try:
        return kind(**own)
    except TypeError as error:
        raise InputError(f"{where} lacks a value ({str(error).partition(') ')[2] or error})") from error


def fits(value: Any, hint: Any) -> bool:
    """True if a JSON value matches a type hint; a whole number is also a float, a list also a tuple or a sequence."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int | NoneType) and value in parts
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
    return getattr(hint, "__name__", "") if isinstance(hint, type) else str(hint).replace("typing.", "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
