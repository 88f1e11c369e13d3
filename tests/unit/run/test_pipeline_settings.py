"""What the pipeline compares and passes on before any stage runs."""

from pathlib import Path

import pytest

from moe_lightning.errors import StaleStageError
from moe_lightning.run.commands import Command, settings_of, stage_commands
from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import main as pipeline
from moe_lightning.run.record import recorded_stage
from moe_lightning.run.stages import STAGES, Stage
from moe_lightning.settings.comparison import StageSettings
from moe_lightning.settings.guide import parse
from moe_lightning.system.json_files import write_json
from tests.parsed import TRAINED, Parsed
from tests.refusals import refuses

SETS = ["corpus.demo_seed=3", "embedding.frames_dtype=float32", "clustering.noise=nearest"]
SETS += ["gating.trainer.gradient_clip_val=0.5", "experts.trainer.max_epochs=2", "moe.model.top_k=3"]
SETS += ["evaluation.num_resamples=100"]


def as_its_stage_resolves(stage: Stage, command: Command) -> StageSettings:
    """Settings as the stage itself records them."""
    return Parsed(stage, command).settings if stage in TRAINED else settings_of(stage, command)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags, without any `--set`, of a run whose stages were recorded with one `--set` of each."""
    run = RunDir(tmp_path_factory.mktemp("finished") / "run")
    flags = ["--mode", "quick", "--run-dir", str(run.path)]
    options = parse([*flags, *(f"--set={one}" for one in SETS)])
    for stage, command in stage_commands(options, run).items():
        run.stage_dir(stage).mkdir(parents=True)
        with recorded_stage(run, stage, as_its_stage_resolves(stage, command)):
            pass
    write_json(run.results_file, {"systems": {}, "metric": {"name": "WER"}, "verdict": {"sentence": "As it was."}})
    return flags


def with_sets(flags: list[str], *sets: str) -> list[str]:
    return [*flags, *(f"--set={one}" for one in sets)]


def test_a_run_is_finished_with_what_it_was_made_with(finished: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pipeline(with_sets(finished, *SETS))
    assert f"all {len(STAGES)} stages" in capsys.readouterr().out
    knobs = ["--num-workers", "1", "--asr-batch-size", "2", "--precision", "32-true"]
    pipeline([*with_sets(finished, *SETS, "moe.trainer.max_time=00:10:00:00"), *knobs])
    assert f"all {len(STAGES)} stages" in capsys.readouterr().out


@pytest.mark.parametrize("dropped", SETS)
def test_a_set_that_is_dropped_is_refused_by_stage_and_setting(dropped: str, finished: list[str]) -> None:
    before = sorted(Path(finished[-1]).rglob("*"))
    stage, _, setting = dropped.partition("=")[0].partition(".")
    with refuses("run.other-settings") as refused:
        raising(with_sets(finished, *(one for one in SETS if one != dropped)))
    assert f"the stage {stage} " in str(refused.value)
    (changed,) = refused.value.value
    assert changed.replace("_", "-").endswith(setting.replace("_", "-"))
    assert sorted(Path(finished[-1]).rglob("*")) == before, "nothing was run"


def test_all_sets_dropped_are_refused_before_anything_is_run(finished: list[str]) -> None:
    with refuses("run.other-settings", {"demo_seed": (3.0, 0.0)}):
        raising(finished)


@pytest.mark.parametrize("changed", ["moe.model.top_k=4", "gating.model.optimizer.lr=0.5", "moe.model.optimizer=SGD"])
def test_a_set_that_is_changed_or_added_is_refused(changed: str, finished: list[str]) -> None:
    with pytest.raises(StaleStageError):
        raising(with_sets(finished, *SETS, changed))


def test_a_set_that_repeats_what_holds_makes_nothing_stale(finished: list[str]) -> None:
    raising(with_sets(finished, *SETS, "gating.model.optimizer.lr=1e-3", "experts.model.max_skipped_batches=20"))


@pytest.mark.parametrize("cut", ["fast_dev_run=true", "limit_train_batches=1", "limit_val_batches=1"])
@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
def test_a_debug_run_among_the_stages_is_refused(stage: str, cut: str, finished: list[str], tmp_path: Path) -> None:
    for run in (finished[-1], str(tmp_path / "new")):
        with refuses("setting.debug-run", stage):
            raising(with_sets([*finished[:-1], run], f"{stage}.trainer.{cut}"))
    assert not (tmp_path / "new").exists()


def raising(arguments: list[str]) -> None:
    """The pipeline's main, with the error in place of its line."""
    pipeline.__wrapped__(arguments)  # type: ignore[attr-defined]


def precisions(*flags: str) -> dict[Stage, str | None]:
    """Of each stage's command."""
    options = parse(flags)
    commands = stage_commands(options, RunDir(options.run_dir))
    found: dict[Stage, str | None] = {}
    for stage, command in commands.items():
        flag = next((one for one in command if one.endswith("precision")), None)
        found[stage] = command[command.index(flag) + 1] if flag else None
    return {stage: found[stage] for stage in ("embedding", "gating", "experts", "moe")}


@pytest.mark.parametrize("mode", [[], ["--mode", "quick"]])
def test_the_gate_keeps_full_precision_unless_precision_is_asked_for(mode: list[str]) -> None:
    half = precisions(*mode, "--fp16")
    assert half == {"embedding": "16-mixed", "gating": None, "experts": "16-mixed", "moe": "16-mixed"}
    assert set(precisions(*mode, "--precision", "bf16-mixed").values()) == {"bf16-mixed"}
    assert precisions(*mode, "--no-fp16")["gating"] is None, "as configs/gating.yaml says"


@pytest.mark.parametrize(
    "flags", [[], ["--set=evaluation.no_guard=true", "--set=clustering.allow_single_cluster=true"]]
)
def test_a_switch_that_is_set_is_given_as_the_stage_takes_it(flags: list[str]) -> None:
    options = parse(flags)
    commands = stage_commands(options, RunDir(options.run_dir))
    is_given = bool(flags)
    assert settings_of("evaluation", commands["evaluation"]).all["no_guard"] is is_given
    assert bool(settings_of("clustering", commands["clustering"]).all.get("allow_single_cluster")) is is_given
