"""Settings of a stage from its command line and YAML files, flat and comparable.

Settings for speed, memory and logging are recorded too, but changing them leaves results valid.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moe_lightning.settings.command_line import read_yaml
from moe_lightning.settings.lightning import FULL_TRAINING, LEARNING_CALLBACKS, LIGHTNING_KNOBS, declared_knobs

Settings = dict[str, Any]

_NOT_SETTINGS = {
    "ckpt_path",
    "config",
    "default_root_dir",
    "dirpath",
    "embedding_dir",
    "help",
    "output_dir",
    "print_config",
    "run_dir",
}


@dataclass(frozen=True)
class StageSettings:
    """Settings of a stage's command."""

    given: Settings
    """Settings from the command line and its YAML files."""
    resolved: Settings | None = None
    """All settings as resolved by the stage's parser; None if the parser would need torch, then not imported."""
    defaults: Settings | None = None
    """Defaults of the parser; None: as `resolved`."""
    knobs: frozenset[str] = frozenset()
    """Declared knobs: settings for speed, memory and logging, that leave a finished stage valid."""

    @property
    def all(self) -> Settings:
        """Every known setting."""
        return {**(self.defaults or {}), **self.given} if self.resolved is None else self.resolved


def command_settings(arguments: Sequence[str]) -> Settings:
    """Settings from a command line: ``--config`` files in their order, overridden by the other flags.

    For LightningCLI (``fit``) the last one wins, file or flag.

    >>> command_settings(["fit", "--seed", "1", "--trainer.max_epochs=2", "--max-utterances", "10", "5", "5"])
    {'seed': 1.0, 'trainer.max_epochs': 2.0, 'max_utterances': [10.0, 5.0, 5.0]}
    """
    is_in_order = list(arguments[:1]) == ["fit"]
    from_files: Settings = {}
    flags: Settings = {}
    for name, values in _flags(arguments):
        if name == "config":
            (flags if is_in_order else from_files).update(flat_settings(read_yaml(Path(values[0]))))
        else:
            parsed = [_parsed(value) for value in values]
            flags |= flat_settings({name: True if not parsed else parsed[0] if len(parsed) == 1 else parsed})
    return {**from_files, **flags}


def _as_classes(settings: Settings) -> Settings:
    """Expand short names of class settings: ``optimizer.lr`` to ``optimizer.init_args.lr``."""
    classes = [name.removesuffix(".class_path") for name in settings if name.endswith(".class_path")]
    full: Settings = {}
    for name, value in settings.items():
        for owner in classes:
            first, _, rest = name.removeprefix(f"{owner}.").partition(".")
            if name == owner:
                name = f"{owner}.class_path"
            elif name.startswith(f"{owner}.") and first not in ("class_path", "init_args", "dict_kwargs"):
                name = ".".join([owner, "init_args", first, *([rest] if rest else [])])
        full[name] = value
    return full


def decisive_settings(settings: Settings, knobs: Collection[str]) -> Settings:
    """Settings that affect results: all but the knobs and their parts."""
    return {name: value for name, value in settings.items() if not _is_knob(name, knobs)}


def _is_knob(name: str, knobs: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in knobs for end in range(1, len(parts) + 1))


def cut_short(settings: Settings) -> str:
    """Settings that make a training a debug run, not kept; "" for a full training."""
    found = {name: value for name, value in settings.items() if name.rpartition(".")[2] in FULL_TRAINING}
    return ", ".join(
        f"{name} {shown(value)}" for name, value in found.items() if value not in FULL_TRAINING[name.rpartition(".")[2]]
    )


def was_cut_short(record: Mapping[str, Any]) -> str:
    """Result of `cut_short` for a record. An older version wrote 1 batch and all, 1.0, both as 1; nobody gives all."""
    parts = [part for name in ("defaults", "settings", "resolved") if isinstance(part := record.get(name), dict)]
    settings = {name: value for part in parts for name, value in part.items()}
    if "resolved" not in record:
        given = {name for name in record["settings"] if name.rpartition(".")[2].startswith("limit_")}
        settings |= {name: "1 batch" for name in given if settings[name] == 1.0}
    return cut_short(settings)


def changes(record: Mapping[str, Any], now: StageSettings) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from a stage's record: each with its old and its new value.

    Resolved settings are compared, so that a dropped flag counts like an added one. If the stage's parser would
    need torch, given settings are merged over the recorded defaults instead.
    """
    given, defaults, resolved = (record.get(name) or {} for name in ("settings", "defaults", "resolved"))
    then, today = _as_classes({**defaults, **given}), _as_classes({**defaults, **now.given})
    if not resolved:  # a record by an older version, whose defaults may include given values
        known = set(today) if now.resolved is None else {*now.resolved, *now.given, *given}
        today = {name: one for name, one in today.items() if name in known and (name not in given or name in now.given)}
    elif now.resolved is not None:
        then, today = resolved, now.resolved
        then = {name: one for name, one in then.items() if name in today or name in given or not _is_argument(name)}
        today = {name: one for name, one in today.items() if name in then or _is_own(name, now)}
    knobs = now.knobs or record.get("knobs") or ()  # without torch, those of the record
    then, today = decisive_settings(then, knobs), decisive_settings(today, knobs)
    both = {name: (then.get(name), today.get(name)) for name in sorted({*then, *today})}
    return {name: (before, after) for name, (before, after) in both.items() if before != after}


def _is_own(name: str, now: StageSettings) -> bool:
    """True for a setting unknown to a record, for example from a newer version, that differs from its default.

    A setting without a default follows from other settings.
    """
    defaults = now.defaults or {}
    owner = name.partition(".class_path")[0]
    known = name in now.given or (not _is_argument(name) and (name in defaults or owner in defaults))
    return known and now.all[name] != defaults.get(name)


def _is_argument(name: str) -> bool:
    """True for an argument of a class; its library may have other arguments in another version."""
    return ".init_args." in name


def shown(value: Any) -> str:
    """A setting as text for messages."""
    return f"{value:g}" if isinstance(value, float) else "not given" if value is None else str(value)


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Name (dots and underscores) and values of each ``--flag``; arguments before the first flag are dropped."""
    name, values = "", []  # type: str, list[str]
    for argument in arguments:
        argument = "--config" if argument == "-c" else argument  # LightningCLI's short form
        is_flag = argument.startswith("--") and len(argument) > 2
        if not is_flag:
            values.append(argument)
            continue
        if name:
            yield name, values
        name, _, value = argument[2:].partition("=")
        name, values = name.replace("-", "_").rstrip("+"), [value] if value else []
    if name:
        yield name, values


def _parsed(value: str) -> Any:
    """A flag's value as jsonargparse reads it; invalid YAML stays text, such as the path ``@home``."""
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by dotted name; numbers as floats, however written; paths of the run are left out."""
    flat: Settings = {}
    for key, value in settings.items():
        name = f"{prefix}{key}".replace("-", "_")
        if isinstance(value, Mapping) and value:
            flat |= flat_settings(value, f"{name}.")
        elif not _NOT_SETTINGS & set(name.split(".")):
            owner, dot, last = name.rpartition(".")
            flat[name] = _part(value) if last.startswith("limit_") else _plain(value)
            if last == "callbacks":
                flat[f"{owner}{dot}learning_callbacks"] = _learning(value)
    return flat


def _learning(callbacks: Any) -> list[str]:
    """Trainer callbacks that change the trained weights, with their arguments."""
    all_callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    words = {str(one): str(one.get("class_path") if isinstance(one, Mapping) else one) for one in all_callbacks}
    return sorted(one for one, path in words.items() if path.rpartition(".")[2] in LEARNING_CALLBACKS)


def _part(value: Any) -> Any:
    """Share of an epoch: Lightning reads 1.0 as the whole epoch, 1 as one batch."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "1 batch" if value == 1 else f"{value} batches"
    return 1.0 if value is None else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return float(value)  # YAML 1.1 reads 1e-4 as a text
    except (TypeError, ValueError, OverflowError):
        return str(value)


def fit_settings(parser: Any, config: Any, arguments: Sequence[str], declared: Mapping[str, Any]) -> StageSettings:
    """Settings for ``fit ...``: as given, as resolved, the parser's defaults, and the knobs.

    Args:
        parser: LightningCLI's, for ``fit``.
        config: The arguments as it parsed them, a namespace of jsonargparse.
        declared: Classes whose arguments are settings, by prefix.
    """
    defaults = flat_settings(parser.get_defaults().as_dict())
    own = {f"{prefix}.{name}" for prefix, cls in declared.items() for name in declared_knobs(cls)}
    return StageSettings(command_settings(arguments), flat_settings(config.as_dict()), defaults, LIGHTNING_KNOBS | own)
