"""A training that is stopped around the end of an epoch, where Lightning's own resume forgets what was to come."""

import shutil
from pathlib import Path

import pytest
import torch

from moe_lightning.run.folder import RunDir
from moe_lightning.system.json_files import read_json
from tests.stage_runs import RecordValidations, Stopped, callback, fit

EVERY_STEP = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
EVERY_STEP += ["--resume.save_on_train_epoch_end", "null"]
SHORT = ["--data.batch_size", "8", "--trainer.num_sanity_val_steps", "0"]


class StopInValidation(RecordValidations):
    """Raises `Stopped` in a validation; the last checkpoint is of the step before it."""

    def on_validation_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise Stopped


@pytest.fixture
def new_run(clustered_run: Path, pretrained_run: Path, tmp_path: Path):
    def make(name: str, *, pretrained: bool = False) -> RunDir:
        shutil.copytree(pretrained_run if pretrained else clustered_run, tmp_path / name)
        return RunDir(tmp_path / name)

    return make


def last(run: RunDir, stage: str):
    return torch.load(run.checkpoint_dir(stage) / "last.ckpt", weights_only=True)


def best_scores(run: RunDir, stage: str):
    states = torch.load(run.checkpoint_dir(stage) / "best.ckpt", weights_only=True)["callbacks"]
    return [state["best_model_score"] for name, state in states.items() if name.startswith("StageCheckpoint")]


@pytest.mark.parametrize("stage", ["gating", "moe"])
def test_the_validation_that_was_due_is_made_up_for(new_run, tiny_whisper, stage: str) -> None:
    """A joint stage whose second epoch is routed otherwise than its first: its validation goes by the second."""
    options = [*SHORT, *EVERY_STEP, "--trainer.max_epochs", "3"]
    options += ["--model.routing_schedule", "[hard:1]", "--model.gate_temperature_start", "2"] if stage == "moe" else []
    whole, stopped = (new_run(name, pretrained=stage == "moe") for name in ("whole", "stopped"))
    fit(stage, whole.path, tiny_whisper, *options, *callback("RecordValidations", file=whole.path / "epochs"))
    stop = ["--trainer.callbacks+=tests.robustness.faults.test_ends_of_epochs.StopInValidation"]
    stop += ["--trainer.callbacks.file", str(stopped.path / "epochs")]
    with pytest.raises(Stopped):
        fit(stage, stopped.path, tiny_whisper, *options, *stop)
    assert last(stopped, stage)["exact_resume"]["validation_is_due"]
    fit(stage, stopped.path, tiny_whisper, *options, *callback("RecordValidations", file=stopped.path / "epochs"))
    assert [(run.path / "epochs").read_text().split() for run in (whole, stopped)] == [["0", "1", "2"]] * 2
    assert best_scores(stopped, stage) == best_scores(whole, stage)
    assert last(stopped, stage)["exact_resume"] == last(whole, stage)["exact_resume"]


def export_stopped(stage: str, run: RunDir, model: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Train to the end, and be stopped before anything is exported."""
    with monkeypatch.context() as patched:
        patched.setattr("moe_lightning.training.stage_cli.StageCLI._export", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            fit(stage, run.path, model, *options)
    assert not run.record_file(stage).exists()


def test_a_training_that_was_ended_early_does_not_go_on_after_a_stop(
    new_run, tiny_whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SHORT, "--trainer.max_epochs", "9", "--early_stopping.patience", "1", "--early_stopping.min_delta", "9"]
    run = new_run("run")
    export_stopped("gating", run, tiny_whisper, monkeypatch, *options)
    before = last(run, "gating")
    assert (before["epoch"], before["exact_resume"]["should_stop"]) == (1, True)
    fit("gating", run.path, tiny_whisper, *options)
    assert last(run, "gating")["epoch"] == 1
    assert run.record_file("gating").exists()


def test_scores_are_exported_by_the_run_that_finds_the_training_done(
    new_run, tiny_whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SHORT, "--trainer.max_epochs", "2"]
    whole, stopped = new_run("whole"), new_run("stopped")
    fit("gating", whole.path, tiny_whisper, *options)
    export_stopped("gating", stopped, tiny_whisper, monkeypatch, *options)
    fit("gating", stopped.path, tiny_whisper, *options)
    metrics = [read_json(run.gate_config_file, "")["metrics"] for run in (whole, stopped)]
    assert metrics[0] == metrics[1]
    assert {"val/loss", "train/loss"} <= metrics[0].keys()


def test_no_checkpoint_is_written_between_the_batches_of_one_step(new_run, tiny_whisper) -> None:
    """Lightning writes one with the first batch after a resume; the gradients of that batch would be lost."""
    options = ["--data.batch_size", "3", *EVERY_STEP, "--trainer.max_epochs", "1"]
    options += ["--trainer.accumulate_grad_batches", "4"]
    whole, stopped = new_run("whole"), new_run("stopped")
    fit("experts", whole.path, tiny_whisper, *options)
    for num_batches in (5, 2):  # of eight, in steps of four: then the second time one batch into the second step
        with pytest.raises(Stopped):
            fit("experts", stopped.path, tiny_whisper, *options, *callback("StopAfter", num_batches=num_batches))
    assert last(stopped, "experts")["ExpertDataModule"]["parts"][0]["num_done"] == 4
    fit("experts", stopped.path, tiny_whisper, *options)
    states = [last(run, "experts")["state_dict"] for run in (whole, stopped)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
