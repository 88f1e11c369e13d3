"""`moe-lightning gating|experts|moe --help`: settings of a trained stage, read from its source.

The parser of these stages is LightningCLI's: it imports torch, for seconds. Here the signatures and docstrings of the
stage's module and data module are parsed, so that help answers at once.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.settings.command_line import read_yaml
from moe_lightning.settings.guide import CONFIG_DIR
from moe_lightning.settings.options import HELP_INDENT, HELP_WIDTH

_SHARED_DATA = "moe_lightning.training.speech_data"
_GROUPS = "moe_lightning.settings.joint"
FROM_THE_RUN = {"num_experts", "embedding_dim", "pooling", "embedding_window", "embedding_layer", "earlier", "run_dir"}
FROM_THE_RUN |= {"experts_per_utterance", "audio_window", "seed", "kwargs", "self"}
"""Arguments that no user gives: they come from the run or from another setting."""
FROM_THE_MODEL = {
    "gating": {"whisper_model", "gate", "gate_input"},
    "experts": {"whisper_model"},
    "moe": {"gate_input"},
}
"""Arguments of data modules that come from the model's setting of the same name."""
_DESCRIPTION = """\
usage: moe-lightning {stage} fit --config configs/{stage}.yaml [--ckpt_path last] [--SETTING VALUE ...]
       moe-lightning {stage} validate --config configs/{stage}.yaml [--ckpt_path best]

{title}.
Defaults are those of configs/{stage}.yaml; `fit --print_config` prints all settings as YAML. The pipeline takes each
setting by `--set {stage}.NAME=VALUE`.
"""
_OTHERS = """\
the run:
  --run_dir DIR                     folder of the run; default lightning_logs/full
  --seed_everything SEED            default 42
  --ckpt_path PATH                  last: go on from the last checkpoint, or begin

Lightning's Trainer, callbacks and checkpoints (`python -m moe_lightning.{stage} fit --help` lists all):
  --trainer.max_epochs N            default {max_epochs}
  --trainer.precision P             32-true, 16-mixed, bf16-mixed
  --trainer.accelerator, .devices, .num_nodes, .strategy, .accumulate_grad_batches, .check_val_every_n_epoch ...
  --checkpoint.monitor NAME         selects the best epoch; default {monitor}
  --early_stopping.patience N       validations; default {patience}
"""


class Setting(NamedTuple):
    """One setting of a trained stage."""

    name: str
    """Dotted, as its flag: ``model.rank``."""
    default: str
    words: str
    is_knob: bool = False
    """Affects speed, memory or logging only."""


def training_help(stage: str) -> str:
    """The text of ``moe-lightning STAGE --help``."""
    config = read_yaml(CONFIG_DIR / f"{stage}.yaml")
    title, model, data = training_settings(stage)
    others = {"max_epochs": config["trainer"]["max_epochs"], "monitor": config["checkpoint"]["monitor"]}
    parts = [
        _DESCRIPTION.format(stage=stage, title=title),
        _listed("the model", model),
        _listed("its data", data),
        _OTHERS.format(stage=stage, patience=config["early_stopping"]["patience"], **others),
    ]
    return "\n".join(parts)


def training_settings(stage: str) -> tuple[str, list[Setting], list[Setting]]:
    """A stage's objective, and the settings of its model and of its data."""
    config = read_yaml(CONFIG_DIR / f"{stage}.yaml")
    title, model = _settings_of(f"moe_lightning.{stage}.module", "model", config)
    data = _settings_of(f"moe_lightning.{stage}.data", "data", config)[1]
    if stage != "gating":  # a subclass adds to the shared arguments
        data += _settings_of(_SHARED_DATA, "data", config)[1]
    return title, model, [one for one in data if one.name.removeprefix("data.") not in FROM_THE_MODEL[stage]]


def _settings_of(module: str, prefix: str, config: Mapping[str, Any]) -> tuple[str, list[Setting]]:
    """First line of a class, and its arguments: of the first class with a described ``__init__`` in a module."""
    owner = next(one for one in _classes(module) if _init(one) and "Args:" in (ast.get_docstring(one) or ""))
    described = _described(owner)
    shipped = config.get(prefix) or {}
    found: list[Setting] = []
    for name, default, annotation in _arguments(owner):
        if name in FROM_THE_RUN:
            continue
        group = next((one for one in _classes(_GROUPS) if one.name == annotation), None)
        if group is None:
            value = _shown(shipped[name]) if name in shipped else default
            is_knob = annotation.startswith("Knob[")
            found.append(Setting(f"{prefix}.{name}", value, described.get(name, ""), is_knob))
            continue
        parts, own = _described(group), shipped.get(name) or {}
        for part, value, _ in _fields(group):
            value = _shown(own[part]) if part in own else value
            found.append(Setting(f"{prefix}.{name}.{part}", value, parts.get(part, "")))
    return (ast.get_docstring(owner) or "").split("\n")[0].rstrip("."), found


def _classes(module: str) -> list[ast.ClassDef]:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return [node for node in ast.parse(Path(spec.origin).read_text("utf-8")).body if isinstance(node, ast.ClassDef)]


def _init(owner: ast.ClassDef) -> ast.FunctionDef | None:
    return next((one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)


def _arguments(owner: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, default and annotation of each argument of ``__init__``."""
    init = _init(owner)
    assert init
    arguments, defaults = init.args.args, init.args.defaults
    padded: list[ast.expr | None] = [*[None] * (len(arguments) - len(defaults)), *defaults]
    for argument, default in zip(arguments, padded, strict=True):
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        yield argument.arg, "" if default is None else _shown_source(default), annotation


def _fields(owner: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Name, default and annotation of each field of a dataclass."""
    for one in owner.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.value:
            yield one.target.id, _shown_source(one.value), ast.unparse(one.annotation)


def _described(owner: ast.ClassDef) -> dict[str, str]:
    """Explanation of each argument in a class's docstring."""
    lines = (ast.get_docstring(owner) or "").partition("Args:")[2].partition("\n\nRaises:")[0].split("\n")
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if begins := re.match(r" {4}(\w+): (.*)", line):
            name = begins[1]
            found[name] = begins[2]
        elif name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
    return {name: text.replace("``", "").replace("`", "") for name, text in found.items()}


def _shown_source(value: ast.expr) -> str:
    try:
        return _shown(ast.literal_eval(value))
    except ValueError:
        return ast.unparse(value)


def _shown(value: Any) -> str:
    """A default as a user would write it in YAML."""
    if isinstance(value, Mapping):
        return str(value.get("class_path", value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _listed(heading: str, settings: list[Setting]) -> str:
    lines = [f"{heading}:"]
    for one in settings:
        flag = f"  --{one.name}"
        text = f"{one.words.rstrip('.')}; default {one.default}" if one.default else one.words
        first = f"{flag:<{HELP_INDENT - 2}}" if len(flag) < HELP_INDENT - 3 else f"{flag}\n{'':<{HELP_INDENT - 2}}"
        wrapped = textwrap.wrap(text, HELP_WIDTH - HELP_INDENT)
        lines.append(first + f"\n{'':<{HELP_INDENT - 2}}".join(wrapped))
    return "\n".join(lines) + "\n"
