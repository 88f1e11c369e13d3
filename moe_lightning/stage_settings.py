"""A stage's settings: its command line, the YAML files it names and its flags, flat and comparable.

Knobs of speed, memory and logging are settings too, but a change of them makes nothing stale.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moe_lightning.command_line import CommandParser, read_yaml

Settings = dict[str, Any]

_KNOBS = {
    "accelerator",
    "accumulate_grad_batches",
    "allow_outside_root",
    "batch_size",
    "benchmark",
    "callbacks",
    "compile",
    "detect_anomaly",
    "deterministic",
    "devices",
    "enable_autolog_hparams",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_checkpointing",
    "gradients",  # lie beside the embeddings, which they leave as they are
    "inference_mode",
    "log_every_n_steps",
    "log_rank_zero_only",
    "logger",
    "max_seconds",
    "max_time",  # ends a training as SIGTERM does
    "model_registry",
    "no_plot",
    "num_nodes",
    "num_sanity_val_steps",
    "num_workers",
    "plot",
    "precision",
    "profiler",
    "resume",
    "shard_size",
    "strategy",
    "verbose",
    "weights_only",
}
"""Words in the names of settings whose change makes nothing stale."""
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
_LEARNING_CALLBACKS = {
    "BackboneFinetuning",
    "EMAWeightAveraging",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LearningRateFinder",
    "ModelPruning",
    "StochasticWeightAveraging",
    "WeightAveraging",
}
"""Of Lightning's callbacks those that change what is learned; the others observe, and are knobs."""
_EVERYTHING: dict[str, tuple[Any, ...]] = {
    "fast_dev_run": (None, False, 0.0),
    "limit_predict_batches": (None, 1.0),
    "limit_test_batches": (None, 1.0),
    "limit_train_batches": (None, 1.0),
    "limit_val_batches": (None, 1.0),
    "overfit_batches": (None, 0.0),
}
"""Settings of the Lightning Trainer that cut a training short, and the values under which they do not."""


@dataclass(frozen=True)
class StageSettings:
    """Settings of a stage's command."""

    given: Settings
    """What the command line and the YAML files that it names say."""
    resolved: Settings | None = None
    """Every setting as the stage's parser resolves it; None where that takes torch, which is not imported for it."""
    defaults: Settings | None = None
    """What holds where nothing is given; None: as `resolved`."""

    @property
    def all(self) -> Settings:
        """Every setting that is known."""
        return {**(self.defaults or {}), **self.given} if self.resolved is None else self.resolved


def command_settings(arguments: Sequence[str]) -> Settings:
    """Settings that a command line gives: ``--config`` files in their order, overlaid by the other flags.

    Of LightningCLI (``fit``) the last one wins, file or flag.

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
    """Short forms of a class's settings in full: ``optimizer.lr`` is ``optimizer.init_args.lr``."""
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


def parser_settings(parser: CommandParser, options: Mapping[str, Any], arguments: Sequence[str]) -> StageSettings:
    """Settings of a command that is no LightningModule's.

    Args:
        options: What its parser has resolved the arguments to.
    """
    return StageSettings(command_settings(arguments), flat_settings(options), flat_settings(parser.defaults))


def decisive_settings(settings: Settings) -> Settings:
    """Those whose change makes another result: no knobs of speed, memory and logging."""
    return {name: value for name, value in settings.items() if not _KNOBS & set(name.split("."))}


def cut_short(settings: Settings) -> str:
    """Settings by which a training is a debug run, of which nothing is kept; "" where it is a real one."""
    found = {name: value for name, value in settings.items() if name.rpartition(".")[2] in _EVERYTHING}
    return ", ".join(
        f"{name} {shown(value)}" for name, value in found.items() if value not in _EVERYTHING[name.rpartition(".")[2]]
    )


def was_cut_short(record: Mapping[str, Any]) -> str:
    """The same of a record. An older version wrote both 1 batch and the whole, 1.0, as 1; nobody asks for the whole."""
    parts = [part for name in ("defaults", "settings", "resolved") if isinstance(part := record.get(name), dict)]
    settings = {name: value for part in parts for name, value in part.items()}
    if "resolved" not in record:
        given = {name for name in record["settings"] if name.rpartition(".")[2].startswith("limit_")}
        settings |= {name: "1 batch" for name in given if settings[name] == 1.0}
    return cut_short(settings)


def changes(record: Mapping[str, Any], now: StageSettings) -> dict[str, tuple[Any, Any]]:
    """Settings in which a stage differs from its record: what each was then, and is now.

    Both are compared as resolved, so that a flag that is dropped is seen like one that is added. Without the
    stage's parser, which may take torch, both are laid over the defaults that the record keeps.
    """
    given, defaults, resolved = (record.get(name) or {} for name in ("settings", "defaults", "resolved"))
    then, today = _as_classes({**defaults, **given}), _as_classes({**defaults, **now.given})
    if not resolved:  # of an older version, whose defaults may have what was given in them
        known = set(today) if now.resolved is None else {*now.resolved, *now.given, *given}
        today = {name: one for name, one in today.items() if name in known and (name not in given or name in now.given)}
    elif now.resolved is not None:
        then, today = resolved, now.resolved
        then = {name: one for name, one in then.items() if name in today or name in given or not _is_argument(name)}
        today = {name: one for name, one in today.items() if name in then or _is_own(name, now)}
    then, today = decisive_settings(then), decisive_settings(today)
    both = {name: (then.get(name), today.get(name)) for name in sorted({*then, *today})}
    return {name: (before, after) for name, (before, after) in both.items() if before != after}


def _is_own(name: str, now: StageSettings) -> bool:
    """Whether a setting that a record does not know, such as one of a newer version, is more than its default.

    What has no default follows from other settings.
    """
    defaults = now.defaults or {}
    owner = name.partition(".class_path")[0]
    known = name in now.given or (not _is_argument(name) and (name in defaults or owner in defaults))
    return known and now.all[name] != defaults.get(name)


def _is_argument(name: str) -> bool:
    """Whether a setting is an argument of a class, of which another version of its library may have others."""
    return ".init_args." in name


def shown(value: Any) -> str:
    """A setting as a message has it."""
    return f"{value:g}" if isinstance(value, float) else "not given" if value is None else str(value)


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Name (dots and underscores) and values of each ``--flag``; what stands before the first is dropped."""
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
    """A flag's value as jsonargparse reads it; what is no YAML is the text it is, such as the path ``@home``."""
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by dotted name; numbers as floats, whatever way they were written; no paths of the run."""
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
    """Those of a Trainer's callbacks that change what is learned, with their arguments."""
    all_callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    words = {str(one): str(one.get("class_path") if isinstance(one, Mapping) else one) for one in all_callbacks}
    return sorted(one for one, path in words.items() if path.rpartition(".")[2] in _LEARNING_CALLBACKS)


def _part(value: Any) -> Any:
    """How much of an epoch is used: to Lightning 1.0 is all of it, 1 is one batch."""
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
