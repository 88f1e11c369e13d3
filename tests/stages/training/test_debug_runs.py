"""A training that is cut short leaves a run as it is; one that is ended by its time limit goes on."""

import os
import shutil
import signal
from importlib import import_module
from pathlib import Path

import pytest
import torch

from moe_lightning.run.folder import RunDir
from tests.places import ROOT
from tests.refusals import Refusals, fit_arguments
from tests.stage_runs import callback, fit

TWO_EPOCHS = ["--trainer.max_epochs", "2"]
CUTS = {
    "fast_dev_run": "true",
    "limit_train_batches": "1",
    "limit_val_batches": "0",
    "limit_test_batches": "1",
    "limit_predict_batches": "1",
    "overfit_batches": "1",
}


@pytest.fixture
def run(clustered_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))


def contents(run: RunDir) -> dict[str, bytes]:
    """Every file of a run."""
    files = [file for file in run.path.rglob("*") if file.is_file()]
    return {file.relative_to(run.path).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", CUTS)
def test_a_debug_run_leaves_nothing_and_says_so(
    name: str, run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, f"--trainer.{name}", CUTS[name])
    assert contents(run) == before
    assert [line for line in capsys.readouterr().out.splitlines() if f"trainer.{name}" in line and "gating" in line]


def test_the_training_after_a_debug_run_is_the_one_without_it(
    run: RunDir, pretrained_run: Path, tiny_whisper: Path
) -> None:
    for flags in (["--trainer.fast_dev_run", "true"], ["--trainer.limit_train_batches", "1"]):
        fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, *flags)
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS)
    assert run.gate_file.read_bytes() == RunDir(pretrained_run).gate_file.read_bytes()


def test_a_flag_that_is_dropped_or_added_is_refused_by_name(
    run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = ["--trainer.gradient_clip_val", "0.5"]
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, *clip)
    before = contents(run)
    refused = Refusals(capsys)
    command = [str(part) for part in fit_arguments(run, "gating", tiny_whisper, *TWO_EPOCHS)]
    assert "trainer.gradient_clip_val was 0.5" in refused("gating.__main__", *command)
    assert "early_stopping.patience was 5, now 7" in refused(
        "gating.__main__", *command, *clip, "--early_stopping.patience", "7"
    )
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, *clip, "--trainer.limit_train_batches", "1.0")
    assert contents(run) == before


def test_an_early_stop_by_a_score_that_there_is_none_of_is_refused_and_leaves_the_stage_open(
    run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = fit_arguments(run, "gating", tiny_whisper, "--early_stopping.monitor", "val/wre")
    words = Refusals(capsys)("gating.__main__", *command)
    assert "early_stopping.monitor is val/wre" in words
    assert "val/loss" in words
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS)


@pytest.mark.parametrize("stage", ["experts", "moe"])
def test_a_debug_run_of_a_finished_stage_with_everything_that_is_shipped_changes_no_file(
    stage: str, finished_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    before = contents(run)
    config = ROOT / "configs" / f"{stage}.yaml"
    command = ["fit", "--config", str(config), "--run_dir", str(run.path)]
    command += [] if stage == "moe" else ["--model.whisper_model", str(tiny_whisper)]
    command += [*TWO_EPOCHS, "--trainer.accelerator", "cpu", "--data.num_workers", "0", "--ckpt_path", "last"]
    command += ["--model.refinement.num_rounds", "1"] if stage == "moe" else []
    import_module(f"moe_lightning.{stage}.__main__").main([*command, "--trainer.limit_train_batches", "2"])
    output = capsys.readouterr().out
    assert contents(run) == before
    assert "trainer.limit_train_batches 2 batches" in output
    assert ("refinement 1:" in output) == (stage == "moe"), "it did what a training does"


def test_a_debug_run_that_is_stopped_leaves_nothing_either(run: RunDir, tiny_whisper: Path) -> None:
    before = contents(run)
    stop = callback("SignalItself", number=int(signal.SIGTERM), hook="on_train_batch_start", num_calls=1)
    with pytest.raises(SystemExit) as ended:
        fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, "--trainer.limit_val_batches", "1", *stop)
    assert ended.value.code == 128 + signal.SIGTERM
    assert contents(run) == before


def test_a_training_that_is_out_of_time_ends_behind_its_step_and_goes_on(
    run: RunDir, pretrained_run: Path, tiny_whisper: Path
) -> None:
    limit = ["--trainer.max_time", "00:00:00:00"]
    for num_steps in (1, 1, 2):  # the second time it makes up for the validation that was due
        with pytest.raises(SystemExit) as ended:
            fit("gating", run.path, tiny_whisper, *TWO_EPOCHS, *limit)
        assert ended.value.code == 128 + signal.SIGTERM
        checkpoint = torch.load(run.checkpoint_dir("gating") / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == num_steps, "an epoch is one"
    assert not run.record_file("gating").exists()
    fit("gating", run.path, tiny_whisper, *TWO_EPOCHS)
    assert run.gate_file.read_bytes() == RunDir(pretrained_run).gate_file.read_bytes()


def test_a_debug_run_needs_what_a_training_needs(
    run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(run.record_file("clustering"), run.path / "away")
    command = fit_arguments(run, "gating", tiny_whisper, "--trainer.fast_dev_run", "true")
    assert str(run.record_file("clustering")) in Refusals(capsys)("gating.__main__", *command)
