"""A stage's settings: its command line, the YAML files it names overlaid by its flags, flat and comparable.

Knobs of speed, memory and logging are settings too, but a change of them makes nothing stale.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from moe_lightning.command_line import read_yaml

Settings = dict[str, Any]

_KNOBS = {
    "accelerator",
    "accumulate_grad_batches",
    "allow_outside_root",
    "batch_size",
    "callbacks",
    "compile",
    "deterministic",
    "devices",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_checkpointing",
    "gradients",  # lie beside the embeddings, which they leave as they are
    "log_every_n_steps",
    "max_seconds",
    "logger",
    "no_plot",
    "num_nodes",
    "num_workers",
    "plot",
    "precision",
    "profiler",
    "resume",
    "shard_size",
    "strategy",
    "weights_only",
}
"""Words in the names of settings whose change makes nothing stale."""
_NOT_SETTINGS = {"config", "ckpt_path", "run_dir", "output_dir", "embedding_dir", "print_config", "help"}


def command_settings(arguments: Sequence[str]) -> Settings:
    """Settings of a command line: ``--config`` files in their order, overlaid by the other flags.

    >>> command_settings(["fit", "--seed", "1", "--trainer.max_epochs=2", "--max-utterances", "10", "5", "5"])
    {'seed': 1.0, 'trainer.max_epochs': 2.0, 'max_utterances': [10.0, 5.0, 5.0]}
    """
    from_files: Settings = {}
    flags: Settings = {}
    for name, values in _flags(arguments):
        if name == "config":
            from_files.update(flat_settings(read_yaml(Path(values[0]))))
        else:
            parsed = [_parsed(value) for value in values]
            flags[name] = True if not parsed else parsed[0] if len(parsed) == 1 else parsed
    return flat_settings({**from_files, **flags})


def decisive_settings(settings: Settings) -> Settings:
    """Those whose change makes another result: no knobs of speed, memory and logging."""
    return {name: value for name, value in settings.items() if not _KNOBS & set(name.split("."))}


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
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    try:
        return float(value)  # YAML 1.1 reads 1e-4 as a text
    except (TypeError, ValueError, OverflowError):
        return str(value)
