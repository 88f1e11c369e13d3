"""Early check of `--set`: the stages check their settings before the first stage runs.

Without it, a misspelt option for the joint stage is found only after training for hours.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_lightning.errors import InputError
from moe_lightning.run.commands import settings_of
from moe_lightning.run.stages import STAGES, Stage, info
from moe_lightning.settings.command_line import read_yaml
from moe_lightning.settings.comparison import command_settings, cut_short

TRAINED = tuple(stage for stage in STAGES if info(stage).is_trained)


def check_settings(
    settings: Mapping[str, str], commands: Mapping[Stage, list[str]], waiting: Sequence[Stage], config_dir: Path
) -> None:
    """Refuse a setting that a waiting stage would refuse. A check that needs torch takes some seconds.

    Args:
        settings: STAGE.OPTION and value, as given by the user; the shipped settings are tested.
        waiting: Stages that come after other unfinished stages.

    Raises:
        InputError: The first stage that refuses a setting.
    """
    for stage in waiting:
        if not info(stage).is_trained:
            settings_of(stage, commands[stage])
    doubtful = [stage for stage in TRAINED if stage in waiting and _is_doubtful(settings, stage, config_dir)]
    asked = [
        subprocess.Popen(
            [sys.executable, "-m", f"moe_lightning.{stage}", *commands[stage], "--print_config"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for stage in doubtful
    ]
    answers = [(process.communicate()[1], process.returncode) for process in asked]
    for stage, (complaint, code) in zip(doubtful, answers, strict=True):
        if code == 2:
            told = _TOLD.search(complaint.strip())
            words, kind = (told["words"], told["code"]) if told else (complaint.strip(), "setting.syntax")
            raise InputError(kind, f"--set, stage {stage}: {words}", f"--set {stage}")


_TOLD = re.compile(r"error: (?P<words>[^\n]*) \[(?P<code>[a-z.-]+)\]$")
"""The last line of a command that refuses."""


def check_whole_trainings(commands: Mapping[Stage, list[str]]) -> None:
    """Refuse a debug run among the stages: it would leave nothing for the stages after it."""
    for stage in TRAINED:
        if words := cut_short(command_settings(commands[stage])):
            raise InputError(
                "setting.debug-run",
                f"the training of the stage {stage} is cut short by {words}: a debug run, of which nothing is kept for"
                " the stages after it; leave it out, or run that stage by itself (--dry-run prints its command)",
                stage,
            )


def _is_doubtful(settings: Mapping[str, str], stage: Stage, config_dir: Path) -> bool:
    """False if every setting for the stage replaces a number in its YAML by another number."""
    config = read_yaml(config_dir / f"{stage}.yaml")
    options = [(name.partition("."), value) for name, value in settings.items()]
    return any(
        not (_is_number(_entry(config, option)) and _is_number(value))
        for (name, _, option), value in options
        if name == stage
    )


def _entry(config: Any, option: str) -> Any:
    for key in option.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)
