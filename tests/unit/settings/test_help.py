"""`--help` of every command: quick, without torch, and true."""

import subprocess
import sys
from dataclasses import fields
from inspect import signature

import pytest

from moe_lightning.__main__ import COMMANDS
from moe_lightning.experts.module import ExpertModule
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.run.stages import STAGES, Stage, info
from moe_lightning.settings.training_help import FROM_THE_MODEL, FROM_THE_RUN, training_help
from tests.parsed import Parsed
from tests.places import ROOT

TRAINED = [stage for stage in STAGES if info(stage).is_trained]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_given_without_torch(command: str) -> None:
    script = f"""
import os, runpy, sys
os.execv = lambda path, words: runpy.run_module(words[2], run_name="__main__", alter_sys=True)
sys.argv = ["moe-lightning", {command!r}, "--help"]
try:
    from moe_lightning.__main__ import main
    if {command!r} not in {TRAINED!r}:
        from moe_lightning.__main__ import COMMANDS
        sys.argv = ["moe-lightning", "--help"]
        runpy.run_module("moe_lightning." + COMMANDS[{command!r}][0], run_name="__main__", alter_sys=True)
    else:
        main()
except SystemExit as ended:
    assert not ended.code
assert "torch" not in sys.modules, "torch takes seconds"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: moe-lightning")


@pytest.mark.parametrize("stage", TRAINED)
def test_help_of_a_training_lists_the_settings_of_its_parser(stage: Stage) -> None:
    parser = Parsed(stage, ["fit"]).parser_of_fit
    names = {one.dest for one in parser._actions if one.dest.startswith(("model.", "data."))}
    taken = {name for name in names if not name.endswith(".help")}
    listed = {line.split()[0][2:] for line in training_help(stage).split("\n") if line.startswith("  --")}
    listed = {name for name in listed if name.startswith(("model.", "data."))}
    assert listed <= taken | {"model.optimizer"}
    from_elsewhere = FROM_THE_RUN | FROM_THE_MODEL[stage]
    missing = {name for name in taken - listed if not any(other.startswith(f"{name}.") for other in taken)}
    assert all(name.rpartition(".")[2] in from_elsewhere for name in missing), missing


@pytest.mark.parametrize("stage", TRAINED)
def test_help_of_a_training_explains_every_setting(stage: Stage) -> None:
    text = training_help(stage)
    assert "; default" in text
    assert "  ; default" not in text
    assert max(map(len, text.split("\n"))) <= 118


def test_the_help_of_the_experts_gives_the_defaults_that_their_config_has() -> None:
    """The help reads the module's source without torch, so its signature says again what the config declares."""
    config = {field.name: field.default for field in fields(ExpertConfig) if field.name != "num_experts"}
    said = {name: one.default for name, one in signature(ExpertModule).parameters.items() if name in config}
    assert said == config
