"""A training whose routing changes: every mode trains, a stop changes nothing, decoding is as it was trained."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.routing import RoutingMode
from moe_lightning.run.folder import RunDir
from tests.stage_runs import Stopped, callback, fit

TWO_EPOCHS = ["--trainer.max_epochs", "2", "--data.batch_size", "8"]
EVERY_STEP = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
EVERY_STEP += ["--resume.save_on_train_epoch_end", "null"]
OPTIONS = ["--model.routing_schedule", "[merge:1]", "--model.gate_temperature", "0.5"]
OPTIONS += [
    "--model.gate_temperature_start",
    "2",
    "--model.gate_training.router_noise",
    "0.5",
    "--model.min_expert_prob",
    "0.05",
]
OPTIONS += [
    "--model.gate_training.z_weight",
    "0.001",
    "--model.gate_training.entropy_weight",
    "0.01",
    "--model.gate_training.pull_weight",
    "0.1",
]


def copied(run: Path, folder: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run, folder / "run")))


@pytest.fixture(scope="module")
def scheduled_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two epochs, merged and then top-k, with every option of the gate, never stopped."""
    run = copied(pretrained_run, tmp_path_factory.mktemp("scheduled"))
    fit("moe", run.path, tiny_whisper, *TWO_EPOCHS, *OPTIONS, "--trainer.log_every_n_steps", "1")
    return run


@pytest.mark.parametrize("num_batches", [2, 5])  # in the merged epoch, in the one after
def test_with_every_option_a_run_stopped_and_resumed_equals_one_never_stopped(
    num_batches: int, scheduled_run: RunDir, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = copied(pretrained_run, tmp_path)
    options = [*TWO_EPOCHS, *OPTIONS, *EVERY_STEP]
    with pytest.raises(Stopped):
        fit("moe", run.path, tiny_whisper, *options, *callback("StopAfter", num_batches=num_batches))
    fit("moe", run.path, tiny_whisper, *options)
    expected, found = load_file(scheduled_run.mixture_file), load_file(run.mixture_file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert run.mixture_config_file.read_bytes() == scheduled_run.mixture_config_file.read_bytes()


def test_the_gates_terms_and_the_temperature_are_in_tensorboard(scheduled_run: RunDir) -> None:
    events = EventAccumulator(str(scheduled_run.tensorboard_dir / "moe")).Reload()
    for name in ("balance", "z", "entropy", "pull"):
        assert len(events.Scalars(f"train/{name}")) == 6, "one a step"
    temperatures = [point.value for point in events.Scalars("train/gate_temperature")]
    assert temperatures == pytest.approx([2 * 0.25 ** (step / 6) for step in range(1, 7)], rel=1e-5)


@pytest.mark.parametrize("best_epoch", [0, 1])
def test_the_best_epochs_weights_are_decoded_as_they_were_trained(
    best_epoch: int, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """The monitor is the temperature: its greatest value is the first epoch's, its least the last one's."""
    run = copied(pretrained_run, tmp_path)
    monitor = ["--checkpoint.monitor", "train/gate_temperature", "--checkpoint.mode", ["max", "min"][best_epoch]]
    fit("moe", run.path, tiny_whisper, *TWO_EPOCHS, *OPTIONS, *monitor)
    config = json.loads(run.mixture_config_file.read_text())
    assert config["routing"] == ["merge", "top_k"][best_epoch]
    assert config["gate_temperature"] == pytest.approx([1.0, 0.5][best_epoch])
    mixture = MixtureASR.load(run.mixture_files)
    assert (mixture.config.routing, mixture.config.min_expert_prob) == (config["routing"], 0.05)
    num_kept = mixture.route(torch.zeros(1, mixture.config.experts.num_experts)).experts_BK.shape[1]
    assert num_kept == 2


@pytest.mark.parametrize("routing", get_args(RoutingMode))
def test_every_mode_trains_every_expert(
    routing: RoutingMode, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = copied(pretrained_run, tmp_path)
    fit("moe", run.path, tiny_whisper, *TWO_EPOCHS, "--model.routing", routing, "--trainer.max_epochs", "1")
    before, after = load_file(run.pretrained_experts_file), load_file(run.mixture_file)
    for name in before:
        for expert in range(2):
            rows = slice(expert * 16, (expert + 1) * 16)
            assert not torch.equal(before[name][rows], after[name][rows]), f"{name} of expert {expert}"
    assert torch.isfinite(torch.stack([tensor.abs().max() for tensor in after.values()])).all()
    assert json.loads(run.mixture_config_file.read_text())["routing"] == routing
