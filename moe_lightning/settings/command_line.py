"""Command lines for stages without a LightningModule: flags, and the same settings from YAML files."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import yaml

from moe_lightning.errors import InputError, MissingInputError

CONFIG_DIR = Path(__file__).parents[1] / "configs"  # installed from a wheel
if not CONFIG_DIR.is_dir():
    CONFIG_DIR = Path(__file__).parents[2] / "configs"  # a checkout
"""Folder of the shipped configs."""
MOST_VALUES = 100_000
"""Upper limit for the values in a config file; the shipped files have dozens."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser without abbreviations; its errors are `InputError`.

    Args:
        takes_config: Add ``--config FILE``, a YAML mapping with these flags; a flag wins over a file.
    """

    def __init__(self, *, takes_config: bool = False, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)
        if takes_config:
            self.add_argument("--config", action="append", metavar="FILE", help="YAML with these settings; a flag wins")

    @property
    def defaults(self) -> dict[str, Any]:
        """Default value of each flag."""
        return {action.dest: action.default for action in self._actions if action.default != argparse.SUPPRESS}

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line; its flags override its ``--config`` files.

        Raises:
            InputError: A flag or value is unknown, in a file or on the command line.
        """
        first = CommandParser(prog=self.prog, add_help=False, takes_config=True)
        files, flags = first.parse_known_args(with_shipped_configs(arguments))
        from_files = [flag for file in files.config or [] for flag in self.as_flags(read_yaml(Path(file)), file)]
        return self.parse_args([*from_files, *flags])

    def as_flags(self, settings: Mapping[str, Any], file: str | Path) -> list[str]:
        """Settings from a file, written as command-line flags.

        Raises:
            InputError: The command has no such setting.
        """
        flags: list[str] = []
        for name, value in settings.items():
            flag, opposite = f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"
            if flag not in self._option_string_actions:
                raise InputError(
                    "setting.unknown", f"{file}: {name!r} is no setting of this command; see `{self.prog} --help`", name
                )
            if isinstance(value, Mapping):
                flags += [part for key, one in value.items() for part in (flag, f"{key}={_text(one)}")]
            elif value is True:
                flags.append(flag)
            elif value is False:
                flags += [opposite] if opposite in self._option_string_actions else []
            elif isinstance(value, list):
                flags += [flag, *map(str, value)]
            elif value is not None:
                flags += [flag, str(value)]
        return flags

    def error(self, message: str) -> NoReturn:
        """Raise an InputError; argparse calls this for an unknown flag or value."""
        code, value = complaint_of_argparse(message)
        raise InputError(code, f"{message}; see `{self.prog} --help`", value)


_COMPLAINTS = (
    ("setting.unknown", re.compile(r"unrecognized arguments: (\S+)")),
    ("setting.missing", re.compile(r"the following arguments are required: (\S+?),?(?: |$)")),
    ("setting.choice", re.compile(r"argument (\S+?)(?:/\S+)?: invalid choice")),
    ("setting.syntax", re.compile(r"argument (\S+?)(?:/\S+)?: ")),
)


def complaint_of_argparse(message: str) -> tuple[str, str]:
    """The code for an error of argparse or jsonargparse, and the flag that it names (else the whole message)."""
    found = ((code, pattern.search(message)) for code, pattern in _COMPLAINTS)
    return next(((code, match[1]) for code, match in found if match), ("setting.syntax", message))


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """A command line in which ``--config gating.yaml`` is the shipped file, where this folder has none of that name."""
    words = list(arguments)
    for place, word in enumerate(words):
        if word == "--config" and place + 1 < len(words):
            words[place + 1] = _shipped(words[place + 1])
        elif word.startswith("--config="):
            words[place] = f"--config={_shipped(word.partition('=')[2])}"
    return words


def _shipped(name: str) -> str:
    path = Path(name)
    ours = CONFIG_DIR / path.name
    return str(ours) if str(path.parent) in (".", "configs") and not path.exists() and ours.is_file() else name


def read_yaml(path: Path) -> dict[str, Any]:
    """Contents of a config file.

    Raises:
        InputError: It is missing, not YAML, or not a mapping.
    """
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInputError("file.missing", f"the config file {path} is missing", path) from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # a date in month 13 is a ValueError
        raise InputError("file.malformed", f"{path} is no YAML ({error})", path) from error
    if not isinstance(contents, dict) or not all(isinstance(key, str) for key in contents):
        raise InputError("file.malformed", f"{path} must be a mapping of settings to values", path)
    if sum(1 for _ in islice(_values(contents), MOST_VALUES + 1)) > MOST_VALUES:
        raise InputError(
            "file.too-large",
            f"{path} stands for over {MOST_VALUES:,} values: aliases (*name) that name each other",
            path,
        )
    return contents


def _values(contents: Any) -> Iterator[Any]:
    """All values in nested settings; an aliased value is repeated for each alias."""
    stack = [contents]
    while stack:
        value = stack.pop()
        yield value
        if isinstance(value, Mapping):
            stack += [*value.values()]
        elif isinstance(value, list | tuple | set):
            stack += value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
