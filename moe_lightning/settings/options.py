"""A command's settings as a frozen dataclass: each field declares one flag, YAML key and recorded setting.

    @dataclass(frozen=True)
    class Settings:
        seed: int = option(42, "of the draws")
        num_workers: int = option(2, "processes that read audio", is_knob=True)

gives ``--seed`` and ``--num-workers``, their lines in ``--help`` with type and default, the keys of ``--config FILE``,
and says that another number of workers leaves a finished stage valid.
"""

import argparse
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from functools import cache
from typing import Any, ClassVar, Protocol, Union, cast, get_args, get_origin, get_type_hints

from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.comparison import StageSettings, command_settings, flat_settings

HELP_WIDTH, HELP_INDENT = 118, 36


class Settings(Protocol):
    """A dataclass whose fields are made by `option`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    metavar: str | tuple[str, ...] | None = None,
    read: Callable[[str], Any] | None = None,
    num_values: int | str | None = None,
    group: str = "",
    is_knob: bool = False,
) -> Any:
    """Declare a setting.

    Args:
        default: ``MISSING`` for a required flag.
        help: Its meaning in some words; the default is added.
        read: Makes the value of a flag's text; None takes the type of the annotation.
        num_values: argparse's ``nargs``.
        group: Heading in ``--help``.
        is_knob: Affects speed, memory or logging only: another value leaves a finished stage valid.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "metavar": metavar,
        "read": read,
        "num_values": num_values,
        "group": group,
        "is_knob": is_knob,
    }
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def build_parser(cls: type[Settings], prog: str, description: str, *, takes_config: bool = False) -> CommandParser:
    """A command's parser with a flag for each field."""
    parser = CommandParser(prog=prog, description=description, takes_config=takes_config, formatter_class=help_format)
    add_options(parser, cls)
    return parser


def help_format(prog: str) -> argparse.HelpFormatter:
    """Layout of ``--help``: wide, with the explanations in one column."""
    return argparse.HelpFormatter(prog, max_help_position=HELP_INDENT, width=HELP_WIDTH)


def add_options(
    parser: argparse.ArgumentParser,
    cls: type[Settings],
    names: Iterable[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    group: argparse._ArgumentGroup | None = None,
    as_text: Collection[str] = (),
) -> None:
    """Add flags for fields of a settings class.

    Args:
        names: The fields; None for all.
        defaults: Replaces declared defaults; a flag of None then means "not given", and ``--help`` keeps the declared
            default.
        group: Where they go; None for the groups of their declarations.
        as_text: Fields whose value is checked, but kept as written, such as ``auto``: for another command line.
    """
    types_of = _types(cls)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for one in fields(cast(Any, cls)):
        if "help" not in one.metadata or (names is not None and one.name not in names):
            continue
        heading = one.metadata["group"]
        place: Any = group or parser
        if group is None and heading:
            place = groups.setdefault(heading, parser.add_argument_group(heading))
        kind = types_of[one.name]
        if one.name in as_text:
            kind = _checked_text(one.metadata["read"] or kind)
        _add_flag(place, one, kind, defaults, keeps_text=one.name in as_text)


def from_options(cls: type[Any], options: argparse.Namespace) -> Any:
    """The settings in parsed flags; other flags are ignored.

    Raises:
        InputError: A value is out of its range.
    """
    values = {one.name: getattr(options, one.name) for one in fields(cls) if "help" in one.metadata}
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def resolved_settings(cls: type[Settings], parser: CommandParser, arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line, for the stage's record.

    Raises:
        InputError: A flag or value is unknown.
    """
    options = vars(parser.parse(arguments))
    return StageSettings(
        command_settings(arguments), flat_settings(options), flat_settings(parser.defaults), frozenset(knobs(cls))
    )


def knobs(cls: type[Settings]) -> list[str]:
    """Names of the fields that leave a finished stage valid."""
    return [one.name for one in fields(cast(Any, cls)) if one.metadata.get("is_knob")]


def _add_flag(
    place: argparse._ArgumentGroup,
    one: "Field[Any]",
    kind: Any,
    defaults: Mapping[str, Any] | None,
    keeps_text: bool = False,
) -> None:
    told = one.metadata
    default = one.default if defaults is None else defaults.get(one.name)
    flag = f"--{one.name.replace('_', '-')}"
    text = _help(told["help"], one)
    if kind is bool and one.default is False:
        place.add_argument(flag, action="store_true", default=default, help=text)
    elif kind is bool:
        place.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
    else:
        extra = {"nargs": told["num_values"]} if told["num_values"] is not None else {}
        required = {"required": True} if one.default is MISSING and defaults is None else {"default": default}
        place.add_argument(
            flag,
            type=kind if keeps_text else told["read"] or kind,
            choices=told["choices"],
            metavar=told["metavar"],
            help=text.replace("%", "%%"),
            **extra,
            **required,
        )


def _checked_text(read: Callable[[str], Any]) -> Callable[[str], int | str]:
    def checked(text: str) -> int | str:
        value = read(text)
        return value if isinstance(value, int) else text

    return checked


def _help(words: str, one: "Field[Any]") -> str:
    if one.default in (MISSING, None, False, ()) or "default" in words:
        return words
    return f"{words}; default {'on' if one.default is True else one.default}"


@cache
def _types(cls: type[Settings]) -> dict[str, Any]:
    """Type of one value of each field: ``int`` for ``int | None`` and for ``tuple[int, ...]``."""
    return {name: _plain(hint) for name, hint in get_type_hints(cls).items()}


def _plain(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return _plain(next(one for one in get_args(hint) if one is not type(None)))
    if get_origin(hint) is tuple:
        return _plain(get_args(hint)[0])
    return hint if isinstance(hint, type) else str
