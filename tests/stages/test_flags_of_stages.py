"""Every flag of every stage: adding, dropping and changing it is seen by the stage and by the pipeline.

The flags come from the parsers, so that a new one is covered by itself; it must be decisive, or be named here.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from moe_lightning.errors import StaleStageError
from moe_lightning.run.commands import settings_of
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import is_finished, recorded_stage
from moe_lightning.run.stages import STAGES, Stage
from moe_lightning.settings.clustering import parser as clustering_parser
from moe_lightning.settings.comparison import StageSettings, command_settings, cut_short, fit_settings
from moe_lightning.settings.corpus import parser as corpus_parser
from moe_lightning.settings.embedding import parser as embedding_parser
from moe_lightning.settings.evaluation import parser as evaluation_parser
from tests.parsed import TRAINED, Parsed
from tests.places import ROOT
from tests.refusals import refuses

Resolve = Callable[[Sequence[str]], StageSettings]

PARSERS: dict[Stage, Callable[[], argparse.ArgumentParser]] = {
    "corpus": corpus_parser,
    "embedding": embedding_parser,
    "clustering": clustering_parser,
    "evaluation": evaluation_parser,
}
NO_SETTINGS = {"config", "run_dir", "embedding_dir", "output_dir", "ckpt_path", "default_root_dir", "dirpath"}
KNOBS: dict[Stage, set[str]] = {
    "corpus": {"allow_outside_root", "num_workers"},
    "embedding": {"gradients", "shard_size", "batch_size", "max_seconds", "num_workers", "accelerator", "devices"}
    | {"num_nodes", "strategy", "precision", "deterministic"},
    "clustering": {"plot"},
    "evaluation": {"batch_size", "num_workers", "accelerator", "deterministic", "precision"},
}
TRAINER_KNOBS = {"accelerator", "accumulate_grad_batches", "benchmark", "callbacks", "detect_anomaly", "deterministic"}
TRAINER_KNOBS |= {"devices", "enable_autolog_hparams", "enable_model_summary", "enable_progress_bar", "inference_mode"}
TRAINER_KNOBS |= {"log_every_n_steps", "logger", "max_time", "model_registry", "num_nodes", "num_sanity_val_steps"}
TRAINER_KNOBS |= {"precision", "profiler", "strategy"}
OTHER_KNOBS = {"checkpoint.verbose", "early_stopping.verbose", "early_stopping.log_rank_zero_only", "weights_only"}
OTHER_KNOBS |= {"model.compile", "model.gradient_checkpointing"}
OTHER_KNOBS |= {"data.batch_size", "data.num_workers", "data.max_seconds"}
CUTS = {"fast_dev_run", "overfit_batches", *(f"limit_{name}_batches" for name in ("train", "val", "test", "predict"))}
CUT_TO = {"fast_dev_run": ["true", "3"], "overfit_batches": ["1", "0.5"]}
SPECIAL = {
    "trainer.strategy": ["ddp", "fsdp"],
    "trainer.max_time": ["00:01:00:00", "00:02:00:00"],
    "trainer.plugins": ["lightning.pytorch.plugins.TorchCheckpointIO", "lightning.pytorch.plugins.HalfPrecision"],
    "trainer.logger": ["true", "false"],
    "trainer.callbacks": ["[lightning.pytorch.callbacks.Timer]", "[lightning.pytorch.callbacks.RichProgressBar]"],
    "model.optimizer": ["torch.optim.SGD", "torch.optim.Adam"],
    "checkpoint.train_time_interval": ["0:01:00", "0:02:00"],
    "resume.train_time_interval": ["0:01:00", "0:02:00"],
}
NEEDS = {"label_field": ["--algorithm", "label"]}
"""Flags that are refused without another one, which is then given before and after."""
TAKEN = {"algorithm": "label", "noise": "noop"}
"""Choices that are refused without another flag."""


def record(run: RunDir, stage: Stage, settings: StageSettings) -> None:
    """Do a stage anew, which has nothing to do."""
    run.record_file(stage).unlink(missing_ok=True)
    with recorded_stage(run, stage, settings) as has_work:
        assert has_work


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run in which every stage may begin."""
    run = RunDir(tmp_path / "run")
    for stage in STAGES:
        run.stage_dir(stage).mkdir(parents=True)
        run.record_file(stage).write_text(json.dumps({"settings": {}}))
    return run


def refusals(run: RunDir, stage: Stage, ways: Sequence[StageSettings]) -> list[str]:
    """What each way of asking for a stage is refused with, "" where it is finished."""
    found = []
    for settings in ways:
        try:
            assert is_finished(run, stage, settings)
            found.append("")
        except StaleStageError as error:
            found.append(str(error))
    return found


def check(run: RunDir, stage: Stage, resolve: Resolve, name: str, base: list[str], flags: list[list[str]]) -> None:
    """Add, drop and change a flag; the stage and the pipeline must refuse each, or neither any."""
    is_decisive = not (name in NO_SETTINGS or name in KNOBS.get(stage, ()) or _is_knob(name))
    first, second = ([*base, *flag] for flag in (flags[0], flags[-1]))
    for then, *ways in ((base, base, first), (first, first, base, second)):
        record(run, stage, resolve(tuple(then)))
        for now in ways:
            for words in refusals(run, stage, [resolve(tuple(now)), settings_of(stage, now)]):
                is_named = f" {name} was " in words or f" {name}." in words
                assert is_named == (is_decisive and then != now), f"{name}: {then} -> {now}: {words or 'finished'}"
                assert is_named or not words


def _is_knob(name: str) -> bool:
    group, _, last = name.rpartition(".")
    of_trainer = group == "trainer" and last in TRAINER_KNOBS
    return of_trainer or name in OTHER_KNOBS or group == "resume" or last in NO_SETTINGS


# the stages whose parser takes no torch


def plain_flags(action: argparse.Action) -> list[list[str]]:
    """Two forms of a flag that are not its default; one of a switch."""
    option = action.option_strings[-1]
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return [[option]]
    if action.choices:
        names = [str(one) for one in action.choices if one not in (action.default, TAKEN.get(action.dest))]
        return [[option, name] for name in names[-2:]]
    if isinstance(action.nargs, int):
        return [[option, *["7"] * action.nargs], [option, *["9"] * action.nargs]]
    is_decimal = action.type is float or "decimal" in getattr(action.type, "__name__", "")
    values = ("x", "y") if action.type in (None, Path) else ("0.7", "0.9") if is_decimal else ("7", "9")
    return [[option, value] for value in values]


def resolver_of(stage: Stage) -> Resolve:
    """Settings as the stage itself resolves them."""
    return lambda arguments: settings_of(stage, list(arguments))


def plain_cases() -> list[Any]:
    """Stage and flag, for every flag of the four parsers."""
    return [
        pytest.param(stage, action, id=f"{stage} {action.dest}")
        for stage, parser in PARSERS.items()
        for action in parser()._actions
        if action.option_strings and action.dest != "help"
    ]


@pytest.mark.parametrize(("stage", "action"), plain_cases())
def test_a_flag_that_is_added_dropped_or_changed_is_seen(stage: Stage, action: argparse.Action, run: RunDir) -> None:
    if action.dest in ("config", "rescore", "split"):  # of no record: a file, no run of the stage, another report
        return
    required = [one for one in PARSERS[stage]()._actions if one.required and one.dest != action.dest]
    base = [part for one in required for part in (one.option_strings[-1], "x")] + NEEDS.get(action.dest, [])
    flags = plain_flags(action)
    if action.dest in NEEDS or action.required:  # cannot be left out
        base, flags = [*base, *flags[0]], flags[1:]
    check(run, stage, resolver_of(stage), action.dest, base, flags)


@pytest.mark.parametrize(("stage", "action"), plain_cases())
def test_a_flag_that_says_its_default_makes_nothing_stale(stage: Stage, action: argparse.Action, run: RunDir) -> None:
    if action.default in (None, False, (), argparse.SUPPRESS) or action.dest in NO_SETTINGS:
        return
    base = [part for one in PARSERS[stage]()._actions if one.required for part in (one.option_strings[-1], "x")]
    is_switch = isinstance(action, argparse.BooleanOptionalAction)
    said = [*base, action.option_strings[0], *([] if is_switch else [str(action.default)])]
    for then, now in ((base, said), (said, base)):
        record(run, stage, resolver_of(stage)(then))
        assert refusals(run, stage, [resolver_of(stage)(now), settings_of(stage, now)]) == ["", ""]


# the stages that train


@pytest.fixture(scope="module")
def fit_parsers() -> dict[Stage, Any]:
    """Parser of each stage's ``fit``."""
    return {stage: Parsed(stage, ["fit"]).parser_of_fit for stage in TRAINED}


def trained_names(stage: Stage, parser: Any) -> list[str]:
    """Flags of a stage's ``fit``; of the second and third stage those that the first has not."""
    actions = [one for one in parser._actions if one.option_strings and one.default != argparse.SUPPRESS]
    names = [one.dest for one in actions if one.dest not in ("help", "config", "print_config")]
    return names if stage == "gating" else [name for name in names if name.startswith(("model.", "data."))]


def resolver(parser: Any, stage: Stage = "gating") -> Resolve:
    """Settings of a command line ``fit ...``, by its parser."""
    declared = dict(zip(("model", "data"), TRAINED[stage], strict=True))
    return lambda arguments: fit_settings(parser, parser.parse_args(list(arguments)[1:]), arguments, declared)


def values_of(hint: Any) -> Iterator[str]:
    """Values of a type; of an optional or nested one those of its parts too."""
    yield from {bool: ("true", "false"), int: ("7", "9"), float: ("0.7", "0.9"), str: ("x", "y")}.get(hint, ())
    parts = [one for one in get_args(hint) if one is not Ellipsis]
    if get_origin(hint) in (list, tuple):
        numbers = 2 if hint == tuple[float, float] else 1
        yield from (f"[{', '.join([value] * numbers)}]" for part in parts for value in values_of(part))
    elif get_origin(hint) is Literal:
        yield from (str(part) for part in parts if isinstance(part, str))
    else:
        yield from (value for part in parts for value in values_of(part))


def working_flags(parser: Any, resolve: Resolve, name: str) -> list[list[str]]:
    """Two forms of a flag, of a switch one, with other outcomes than its default and each other."""
    (action,) = [one for one in parser._actions if one.dest == name]
    found: list[list[str]] = []
    seen = [resolve(("fit",)).all]
    for value in SPECIAL.get(name) or values_of(action._typehint):
        outcome = resolve(("fit", f"--{name}", value)).all
        if outcome not in seen or name.rpartition(".")[2] in NO_SETTINGS:
            seen.append(outcome)
            found.append([f"--{name}", value])
        if len(found) == 2:
            break
    assert found, f"no value of --{name} is known; add two to SPECIAL"
    return found


@pytest.mark.parametrize("stage", TRAINED)
def test_every_flag_of_a_training_is_seen(stage: Stage, fit_parsers: dict[Stage, Any], run: RunDir) -> None:
    parser = fit_parsers[stage]
    resolve = cache(resolver(parser, stage))
    names = [name for name in trained_names(stage, parser) if name.rpartition(".")[2] not in CUTS]
    assert len(names) > 20
    for name in names:
        check(run, stage, resolve, name, ["fit"], working_flags(parser, resolve, name))


@pytest.mark.parametrize("name", sorted(CUTS))
def test_a_flag_that_cuts_a_training_short_is_told_from_one_that_does_not(
    name: str, fit_parsers: dict[Stage, Any]
) -> None:
    resolve = resolver(fit_parsers["gating"])
    for value in CUT_TO.get(name, ["1", "3", "0.5", "0"]):
        settings = resolve(["fit", f"--trainer.{name}", value])
        assert f"trainer.{name}" in cut_short(settings.all), value
        assert f"trainer.{name}" in cut_short(settings.given), value
    for value in {"fast_dev_run": ["false", "0"], "overfit_batches": ["0", "0.0"]}.get(name, ["1.0", "null"]):
        settings = resolve(["fit", f"--trainer.{name}", value])
        assert cut_short(settings.all) == cut_short(settings.given) == ""


def test_a_default_that_a_training_is_given_makes_nothing_stale(fit_parsers: dict[Stage, Any], run: RunDir) -> None:
    for stage, parser in fit_parsers.items():
        resolve = resolver(parser, stage)
        defaults = {name: parser.get_defaults()[name] for name in trained_names(stage, parser)}
        plain = {name: value for name, value in defaults.items() if isinstance(value, str | int | float)}
        assert len(plain) > 15
        said = ["fit", *(part for name, value in plain.items() for part in (f"--{name}", str(value).lower()))]
        for then, now in ((["fit"], said), (said, ["fit"])):
            record(run, stage, resolve(then))
            assert refusals(run, stage, [resolve(now), StageSettings(command_settings(now))]) == ["", ""]


def test_a_line_that_goes_from_a_config_is_seen(fit_parsers: dict[Stage, Any], run: RunDir, tmp_path: Path) -> None:
    config, resolve = tmp_path / "own.yaml", resolver(fit_parsers["moe"], "moe")
    lines = ["model:", "  top_k: 3", "  optimizer:", "    class_path: torch.optim.SGD", "    init_args: {lr: 0.5}"]
    command = ["fit", "--config", str(config)]
    config.write_text("\n".join(lines))
    record(run, "moe", resolve(command))
    for changed, name in (
        (lines[:2], "model.optimizer.class_path"),
        ([lines[0], *lines[2:]], "model.top_k"),
        (lines[:-1], "model.optimizer.init_args.lr"),
        ([*lines[:-1], "    init_args: {lr: 0.5, momentum: 0.9}"], "model.optimizer.init_args.momentum"),
    ):
        config.write_text("\n".join(changed))
        for words in refusals(run, "moe", [resolve(command), StageSettings(command_settings(command))]):
            assert f"{name} was " in words, changed
    config.write_text(
        "\n".join([*lines[:2], "  optimizer: {class_path: SGD, init_args: {lr: 0.5}}", "  num_warmup_steps: 0"])
    )
    assert refusals(run, "moe", [resolve(command)]) == [""], "another way to say the same"


def test_a_callback_that_changes_what_is_learned_is_a_setting_and_one_that_observes_is_none(
    fit_parsers: dict[Stage, Any], run: RunDir, tmp_path: Path
) -> None:
    config, resolve = tmp_path / "own.yaml", resolver(fit_parsers["experts"], "experts")
    command = ["fit", "--config", str(config)]
    averaging, other = (
        {"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging", "init_args": {"swa_lrs": rate}}
        for rate in (0.1, 0.2)
    )
    observers: list[Any] = [
        {"class_path": "moe_lightning.callbacks.data_flow.DataFlow"},
        "lightning.pytorch.callbacks.Timer",
    ]
    ways: dict[str, list[Any]] = {"none": [], "observed": observers, "averaged": [*observers, averaging]}
    ways["otherwise"] = [other, *observers]
    for then in ways:
        config.write_text(yaml.safe_dump({"trainer": {"callbacks": ways[then]}}))
        record(run, "experts", resolve(command))
        for now in ways:
            config.write_text(yaml.safe_dump({"trainer": {"callbacks": ways[now]}}))
            is_same = then == now or {then, now} == {"none", "observed"}
            for words in refusals(run, "experts", [resolve(command), settings_of("experts", command)]):
                assert ("callbacks was" in words) == (not is_same), (then, now)


def test_of_a_config_and_a_flag_the_last_one_counts_as_it_does_for_the_stage(
    fit_parsers: dict[Stage, Any], tmp_path: Path
) -> None:
    config, resolve = tmp_path / "own.yaml", resolver(fit_parsers["gating"])
    config.write_text("model: {hidden_dim: 8}")
    flag, file = ["--model.hidden_dim", "16"], ["--config", str(config)]
    for arguments, expected in ((["fit", *flag, *file], 8.0), (["fit", *file, *flag], 16.0)):
        settings = resolve(arguments)
        assert settings.given["model.hidden_dim"] == settings.all["model.hidden_dim"] == expected


def test_every_stage_is_here() -> None:
    assert {*PARSERS, *TRAINED} == {*STAGES}


def test_a_misspelt_setting_is_named_by_the_pipeline(fit_parsers: dict[Stage, Any], run: RunDir) -> None:
    record(run, "gating", resolver(fit_parsers["gating"])(["fit"]))
    with refuses("setting.unknown", ["model.hiden_dim"]):
        is_finished(run, "gating", StageSettings(command_settings(["fit", "--model.hiden_dim", "3"])))


def test_a_stages_command_prints_its_config_as_a_process() -> None:
    command = [sys.executable, "-m", "moe_lightning.gating", "fit", "--print_config"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model"]["hidden_dim"] == 512
