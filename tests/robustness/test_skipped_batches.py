"""A batch whose loss or gradient is not finite is left out by all ranks, named and counted, and moves nothing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.moe.__main__ import main as moe
from moe_lightning.run.folder import RunDir
from moe_lightning.training.skipped_batches import SkippedBatches, check_finite, nothing_to_learn
from tests.refusals import ROOT, Refusals, fit_arguments, refuses
from tests.robustness.test_multi_process import TWO_PROCESSES, run_command
from tests.stage_runs import Stopped, callback, fit

ONE_EPOCH = ["--trainer.max_epochs", "1", "--data.batch_size", "4"]


def spoil(id_: str) -> list[str]:
    return callback("SpoilAudio", id=id_)


def record(file: Path) -> list[str]:
    return ["--trainer.callbacks+=tests.stage_runs.RecordSteps", "--trainer.callbacks.file", str(file)]


def steps(file: Path) -> list[tuple[bool, int]]:
    """Of each step, whether it has moved anything and how many batches are skipped so far."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return [(moved == "1", int(count)) for moved, count, _ in lines]


def copied(run: Path, folder: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run, folder / "run")))


def all_are_finite(file: Path) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in load_file(file).values())


@pytest.mark.parametrize("stage", ["experts", "moe"])
def test_an_utterance_of_nan_is_named_and_its_batch_moves_nothing(
    stage: str,
    clustered_run: Path,
    pretrained_run: Path,
    tiny_whisper: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = copied(pretrained_run if stage == "moe" else clustered_run, tmp_path)
    fit(stage, run.path, tiny_whisper, *ONE_EPOCH, *spoil("train_7"), *record(tmp_path / "steps"))
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: a batch is skipped"))
    assert "its loss is not finite: " in line
    assert "'train_7'" in line
    if stage == "moe":
        assert line.endswith("not finite: 'train_7'"), "the joint stage knows the loss of each utterance"
    found = steps(tmp_path / "steps")
    assert [count for _, count in found][-1] == 1
    (skipped,) = [row for row in range(1, len(found)) if found[row][1] > found[row - 1][1]] or [0]
    for row, (moved, _) in enumerate(found[1:], start=1):
        assert moved == (row != skipped)
    assert all_are_finite(run.mixture_file if stage == "moe" else run.pretrained_experts_file)


def test_of_an_accumulated_step_the_other_batches_are_learned(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = copied(pretrained_run, tmp_path)
    accumulate = ["--trainer.accumulate_grad_batches", "6"]
    fit("moe", run.path, tiny_whisper, *ONE_EPOCH, *accumulate, *spoil("train_7"), *record(tmp_path / "steps"))
    found = steps(tmp_path / "steps")
    assert found[-1] == (True, 1)
    assert all_are_finite(run.mixture_file)


def test_a_gradient_that_is_not_finite_moves_nothing(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(pretrained_run, tmp_path)
    infinite = callback("SpoilGradient", number=3)
    fit("moe", run.path, tiny_whisper, *ONE_EPOCH, *infinite, *record(tmp_path / "steps"))
    assert "a batch is skipped, its gradient is not finite: 'train_" in capsys.readouterr().err
    assert steps(tmp_path / "steps")[1:] == [(True, 0), (False, 1), (True, 1), (True, 1), (True, 1)]
    assert all_are_finite(run.mixture_file)


def test_over_the_limit_the_training_ends_and_says_what_to_do(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(pretrained_run, tmp_path)
    flags = ["--data.num_workers", "0", "--model.max_skipped_batches", "0", *spoil("train_7")]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        moe([str(part) for part in fit_arguments(run, "moe", tiny_whisper, *flags)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: 1 batches had a loss or gradient that is not finite, more than")
    assert "max_skipped_batches 0" in last
    assert "lower the learning rate" in last
    assert not run.record_file("moe").exists()


def test_a_resumed_training_remembers_what_was_skipped(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = copied(pretrained_run, tmp_path)
    every_step = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
    options = ["--trainer.max_epochs", "2", "--data.batch_size", "4", *every_step]
    options += ["--resume.save_on_train_epoch_end", "null", *spoil("train_7")]
    stop = ["--trainer.callbacks+=tests.stage_runs.StopAfter", "--trainer.callbacks.num_batches", "8"]
    with pytest.raises(Stopped):
        fit("moe", run.path, tiny_whisper, *options, *stop)
    fit("moe", run.path, tiny_whisper, *options, *record(tmp_path / "steps"))
    assert steps(tmp_path / "steps")[-1][1] == 2, "one an epoch"
    checkpoint = torch.load(run.checkpoint_dir("moe") / "last.ckpt", weights_only=True)
    assert checkpoint["skipped_batches"] == {"count": 2}


def test_two_ranks_skip_together_and_stay_the_same(pretrained_run: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    """Only one of them has the utterance; the other neither waits for it for ever nor steps alone."""
    run = copied(pretrained_run, tmp_path)
    flags = [part for name, value in TWO_PROCESSES.items() for part in (f"--trainer.{name}", value)]
    flags += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.callbacks", "null"]
    flags += [*spoil("train_7"), *record(tmp_path / "steps")]
    flags += ["--data.batch_size", "4", "--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    command = ["fit", "--config", ROOT / "configs" / "moe.yaml", "--run_dir", run.path]
    output = run_command("moe", *command, *flags)
    assert output.count("warning: a batch is skipped, its loss is not finite: 'train_7'") == 1
    first, second = ((tmp_path / f"steps.{rank}").read_text() for rank in range(2))
    assert first == second, "moved or not, skipped, and the weights' sum"
    assert steps(tmp_path / "steps.0")[-1][1] == 1
    assert all_are_finite(run.mixture_file)
    assert json.loads(run.best_file.read_text())["last_epoch"]["train/skipped_batches"] == 1.0


def test_a_loss_of_nothing_gives_every_trained_parameter_a_gradient_of_zero() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    module[1].requires_grad_(False)
    with torch.no_grad():
        module[0].weight[0, 0] = torch.inf
    nothing_to_learn(module).backward()
    for parameter in module[0].parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert module[1].weight.grad is None


def test_infinite_gradients_are_left_to_a_scaler() -> None:
    module = torch.nn.Linear(2, 2)
    skipped = SkippedBatches(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    assert skipped.is_usable(["a"], torch.tensor(1.0))
    module.weight.grad = torch.full((2, 2), torch.inf)
    skipped.check_gradient(optimizer, scale=1024.0)
    assert skipped.count == 0
    assert module.weight.grad is not None
    assert skipped.is_usable(["a"], torch.tensor(1.0))
    with refuses("training.not-finite", 1):
        skipped.check_gradient(optimizer)


def test_a_scaler_that_keeps_falling_ends_the_training(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 8 it is halved three times as scalers do; from 1 on the steps count."""
    run = copied(pretrained_run, tmp_path)
    scaler = ["--trainer.precision", "null", "--trainer.plugins", "tests.stage_runs.HalfPrecision"]
    scaler += ["--trainer.plugins.init_scale", "8"]
    never = ["--trainer.callbacks+=tests.stage_runs.SpoilEveryGradient", "--model.max_skipped_batches", "1"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        fit("moe", run.path, tiny_whisper, *ONE_EPOCH, *scaler, *never, *record(tmp_path / "steps"))
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "a batch is skipped, its gradient, scaled by 1, is not finite: 'train_" in "\n".join(lines)
    assert lines[-1].startswith("error: 2 batches had a loss or gradient that is not finite, more than")
    assert "bf16-mixed" in lines[-1]
    assert steps(tmp_path / "steps") == [(False, 0), (False, 0), (False, 0), (False, 1)]
    assert not run.record_file("moe").exists()


def test_a_gate_that_never_learns_is_not_handed_on(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(clustered_run, tmp_path)
    one_batch = ["--data.batch_size", "24", "--trainer.max_epochs", "2"]
    with pytest.raises(SystemExit) as ended:
        fit("gating", run.path, tiny_whisper, *one_batch, "--model.optimizer.init_args.lr", "1e30")
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert "no epoch of the stage gating had a finite val/loss: the training has not converged" in output
    assert not run.record_file("gating").exists()
    assert not run.gate_file.exists()


def test_a_gates_batches_are_skipped_too(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(clustered_run, tmp_path)
    many = ["--data.batch_size", "1", "--trainer.max_epochs", "1", "--model.max_skipped_batches", "3"]
    with pytest.raises(SystemExit):
        fit("gating", run.path, tiny_whisper, *many, "--model.optimizer.init_args.lr", "1e30")
    lines = capsys.readouterr().err.strip().splitlines()
    assert sum("a batch is skipped, its loss is not finite: 'batch " in line for line in lines) == 4
    assert lines[-1].startswith("error: 4 batches had a loss or gradient that is not finite")


def test_weights_that_are_not_finite_are_never_exported(tiny_whisper: Path) -> None:
    module = torch.nn.Linear(2, 2)
    check_finite(module, "gating")
    module.weight.data[0, 0] = torch.nan
    with refuses("training.not-finite", "weight"):
        check_finite(module, "gating")
    module.weight.requires_grad_(False)  # the frozen backbone is not what was trained
    check_finite(module, "gating")


def test_a_negative_limit_is_refused(refused: Refusals, pretrained_run: Path, tiny_whisper: Path) -> None:
    line = refused(
        "moe.__main__", *fit_arguments(RunDir(pretrained_run), "moe", tiny_whisper, "--model.max_skipped_batches", "-1")
    )
    assert "max_skipped_batches must be at least 0, got -1" in line


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)
