"""The joint stage: every expert trains, and a stop changes nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.moe.__main__ import main as moe
from moe_lightning.run.folder import RunDir
from moe_lightning.training.checkpoints import StageCheckpoint
from tests.places import ROOT
from tests.stage_runs import Stopped, callback, fit

TWO_EPOCHS = ["--trainer.max_epochs", "2", "--data.batch_size", "4"]
EVERY_STEP = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
EVERY_STEP += ["--resume.save_on_train_epoch_end", "null"]


@pytest.fixture(scope="module")
def joint_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The joint stage, two epochs, never stopped."""
    path = tmp_path_factory.mktemp("joint") / "tiny"
    shutil.copytree(pretrained_run, path)
    fit("moe", path, tiny_whisper, *TWO_EPOCHS, *callback("RecordOrder", file=path / "order"))
    return RunDir(path)


def test_every_expert_and_the_gate_differ_from_those_before(joint_run: RunDir) -> None:
    before, after = load_file(joint_run.pretrained_experts_file), load_file(joint_run.mixture_file)
    rank = 16
    for name in before:
        for expert in range(2):
            rows = slice(expert * rank, (expert + 1) * rank)
            assert not torch.equal(before[name][rows], after[name][rows]), f"{name} of expert {expert}"
    gate_before = torch.load(joint_run.gate_file, weights_only=True)
    gate_after = torch.load(joint_run.joint_gate_file, weights_only=True)
    for name in ("hidden.weight", "hidden.bias", "output.weight", "output.bias"):
        assert not torch.equal(gate_before[name], gate_after[name])


def test_the_stage_writes_the_files_of_the_guide(joint_run: RunDir) -> None:
    for expert in range(2):
        assert (joint_run.expert_dir(expert) / "adapter_config.json").exists()
        assert (joint_run.expert_dir(expert) / "adapter_model.safetensors").exists()
    assert json.loads(joint_run.best_file.read_text())["steps"] > 0
    for name in ("best.ckpt", "last.ckpt"):
        assert (joint_run.checkpoint_dir("moe") / name).exists()


@pytest.mark.parametrize("num_workers", ["0", "2"])
@pytest.mark.parametrize("num_batches", [3, 6, 8])  # mid-epoch, at an epoch's end, in the second epoch
def test_a_run_stopped_and_resumed_equals_one_never_stopped(
    num_batches: int, num_workers: str, joint_run: RunDir, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "tiny")
    shutil.copytree(pretrained_run, run.path)
    options = [*TWO_EPOCHS, *EVERY_STEP, "--data.num_workers", num_workers]
    with pytest.raises(Stopped):
        fit("moe", run.path, tiny_whisper, *options, *callback("StopAfter", num_batches=num_batches))
    assert not run.record_file("moe").exists()
    fit("moe", run.path, tiny_whisper, *options, *callback("RecordOrder", file=tmp_path / "order"))
    expected, found = load_file(joint_run.mixture_file), load_file(run.mixture_file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    never_stopped = (joint_run.path / "order").read_text().splitlines()
    assert (tmp_path / "order").read_text().splitlines() == never_stopped[num_batches - 1 :]


def test_batches_by_seconds_train_every_utterance_once_in_every_epoch(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """Epochs then differ in length, which Lightning asks for once unless told otherwise."""
    run = RunDir(tmp_path / "tiny")
    shutil.copytree(pretrained_run, run.path)
    by_seconds = ["--trainer.max_epochs", "4", "--data.batch_size", "8", "--data.max_seconds", "3"]
    record = [
        *callback("RecordOrder", file=tmp_path / "order"),
        "--trainer.callbacks+=tests.stage_runs.RecordValidations",
    ]
    fit("moe", run.path, tiny_whisper, *by_seconds, *record, f"--trainer.callbacks.file={tmp_path / 'validations'}")
    seen = (tmp_path / "order").read_text().split()
    epochs = [sorted(seen[start : start + 24]) for start in range(0, len(seen), 24)]
    assert len(epochs) == 4
    assert all(epoch == sorted(f"train_{number}" for number in range(24)) for epoch in epochs)
    assert (tmp_path / "validations").read_text().split() == ["0", "1", "2", "3"]


def test_a_run_that_is_moved_keeps_its_best_epoch(joint_run: RunDir, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    state = torch.load(joint_run.checkpoint_dir("moe") / "last.ckpt", weights_only=True)["callbacks"]
    saved = next(one for name, one in state.items() if "val/wer" in name and "best_model_path" in one)
    checkpoint = StageCheckpoint(dirpath=moved, filename="best", monitor="val/wer")
    checkpoint.load_state_dict(saved)
    assert checkpoint.best_model_score == saved["best_model_score"]
    assert Path(checkpoint.best_model_path) == moved / "best.ckpt"


def test_a_checkpoint_holds_what_is_trained_and_nothing_of_the_backbone(joint_run: RunDir) -> None:
    names = torch.load(joint_run.checkpoint_dir("moe") / "last.ckpt", weights_only=True)["state_dict"]
    names.pop("mixture._extra_state")  # how the weights were routed
    assert all(name.endswith(("down_RD", "up_RD")) or name.startswith("mixture.gate.") for name in names)


def test_validating_a_finished_run_scores_its_trained_mixture(
    joint_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ROOT / "configs" / "moe.yaml"
    command = ["validate", "--config", str(config), "--run_dir", str(joint_run.path)]
    moe(
        [
            *command,
            "--data.num_workers",
            "0",
            "--trainer.accelerator",
            "cpu",
        ]
    )
    printed = re.search(r"val/loss\W+([0-9.]+)", capsys.readouterr().out)
    assert printed
    best = json.loads(joint_run.best_file.read_text())["last_epoch"]["val/loss"]
    assert abs(float(printed[1]) - best) < 0.2
