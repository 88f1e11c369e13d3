"""What a gate reads: cached or live, one vector or frames, some layers or others, in its own stage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_lightning.gating.data import GatingDataModule
from moe_lightning.gating.module import GatingModule
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.gate import FrozenEncoder, GateConfig
from moe_lightning.run.folder import RunDir
from tests.refusals import refuses
from tests.stage_runs import Stopped, callback, fit

QUICK = ["--trainer.max_epochs", "2", "--data.batch_size", "8", "--model.hidden_dim", "32"]


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], RunDir]:
    return lambda run: RunDir(Path(shutil.copytree(run, tmp_path / "run")))


def test_an_attentive_gate_is_trained_on_cached_frames_and_says_so(
    frames_run: Path, tiny_whisper: Path, copy: Callable[[Path], RunDir]
) -> None:
    run = copy(frames_run)
    fit("gating", run.path, tiny_whisper, *QUICK, "--model.gate", "attentive")
    state = torch.load(run.gate_file, weights_only=True)
    assert state["layer_logits"].shape == (2,)
    assert state["mean_D"].shape == (64,)
    assert state["layer_logits"].abs().max() > 0, "the layers' weights are trained"
    assert state["frame_score.weight"].abs().max() > 0, "and the frames'"
    assert (state["std_D"] != 1).all(), "and it is standardised"
    config = json.loads(run.gate_config_file.read_text())
    assert (config["gate"], config["gate_input"], config["embedding_layer"]) == ("attentive", "cached", "1,last")


@pytest.mark.parametrize("gate", ["mlp", "attentive"])
def test_a_gate_that_listens_learns_what_one_on_the_cache_does(
    gate: str, frames_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """The same weights but for rounding: the live encoder makes what the store holds, in the same order of batches."""
    states = []
    for source in ("cached", "live"):
        run = RunDir(Path(shutil.copytree(frames_run, tmp_path / source)))
        whole = ["--data.batch_size", "24"]  # one batch an epoch: its order does not matter
        fit("gating", run.path, tiny_whisper, *QUICK, *whole, "--model.gate", gate, "--model.gate_input", source)
        states.append(torch.load(run.gate_file, weights_only=True))
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=2e-3, rtol=2e-3)


def test_a_live_gate_may_read_other_layers_than_the_store_holds(
    clustered_run: Path, tiny_whisper: Path, copy: Callable[[Path], RunDir]
) -> None:
    run = copy(clustered_run)
    live = ["--model.gate", "attentive", "--model.gate_input", "live", "--model.gate_layers", "0,1"]
    fit("gating", run.path, tiny_whisper, *QUICK, *live)
    assert torch.load(run.gate_file, weights_only=True)["mean_D"].shape == (64,)


def test_a_checkpoint_of_a_live_gate_holds_nothing_of_the_encoder(
    frames_run: Path, tiny_whisper: Path, copy: Callable[[Path], RunDir]
) -> None:
    run = copy(frames_run)
    fit("gating", run.path, tiny_whisper, *QUICK, "--model.gate_input", "live")
    checkpoint = torch.load(run.checkpoint_dir("gating") / "last.ckpt", weights_only=True)
    assert all(name.startswith("gate.") for name in checkpoint["state_dict"])


@pytest.mark.parametrize("source", ["cached", "live"])
def test_an_attentive_gate_stopped_and_resumed_equals_one_never_stopped(
    source: str, frames_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    every_step = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
    options = [*QUICK, "--model.gate", "attentive", "--model.gate_input", source]
    options += [*every_step, "--resume.save_on_train_epoch_end", "null"]
    runs = [RunDir(Path(shutil.copytree(frames_run, tmp_path / name))) for name in ("whole", "stopped")]
    fit("gating", runs[0].path, tiny_whisper, *options)
    with pytest.raises(Stopped):
        fit("gating", runs[1].path, tiny_whisper, *options, *callback("StopAfter", num_batches=4))
    fit("gating", runs[1].path, tiny_whisper, *options)
    whole, resumed = (torch.load(run.gate_file, weights_only=True) for run in runs)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_attentive_gate_without_stored_frames_is_told_how_to_get_them(
    clustered_run: Path, tiny_whisper: Path, copy: Callable[[Path], RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit("gating", copy(clustered_run).path, tiny_whisper, *QUICK, "--model.gate", "attentive")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "run `moe-lightning embed --store frames`" in line
    assert "or take gate_input live" in line


def test_the_batches_a_gate_is_standardised_by_are_some_of_the_train_split(
    frames_run: Path, tiny_whisper: Path
) -> None:
    data = GatingDataModule(str(frames_run), str(tiny_whisper), batch_size=5, gate="attentive")
    batches = [list(data.standardising_batches()) for _ in range(2)]
    assert sum(len(batch.embeddings_BD) for batch in batches[0]) == 24
    assert all(torch.equal(*pair) for pair in zip(batches[0][0][:2], batches[1][0][:2], strict=True))


def test_the_live_encoder_makes_what_the_store_holds(frames_run: Path, tiny_whisper: Path) -> None:
    data = GatingDataModule(str(frames_run), str(tiny_whisper), batch_size=4, gate="attentive", gate_input="live")
    config = GateConfig(2, data.embedding_dim, "mean", 0.0, data.embedding_layer, "attentive", "live")
    encoder = FrozenEncoder(load_backbone(str(tiny_whisper)), config)
    for batch in data.standardising_batches():
        frames = encoder.read(batch.waveforms_BL, batch.num_samples_B)
        assert isinstance(frames, Frames)
        for row, id_ in enumerate(batch.ids):
            found_TD = frames.values_BTD[row, : frames.num_frames_B[row]].numpy()
            np.testing.assert_allclose(found_TD, data.inputs.store.frames_of(id_), atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "stored", "layers", "kind", "expected"),
    [
        ("mean", "last", None, "mlp", 10),
        ("mean+std", "last", None, "mlp", 20),
        ("mean+std", "1,last", "1", "mlp", 20),
        ("mean", "1,last", "0,1,2", "mlp", 30),
        ("mean+std", "1,last", None, "attentive", 20),
        ("mean+std", "1,2,last", "0,last", "attentive", 20),
    ],
)
def test_a_gates_input_has_the_size_of_what_it_reads(
    pooling: str, stored: str, layers: str | None, kind: str, expected: int
) -> None:
    """An encoder frame has 10 numbers here."""
    embedding_dim = 10 * (stored.count(",") + 1) * (2 if pooling == "mean+std" else 1)
    config = GateConfig(3, embedding_dim, pooling, 0.0, stored, kind, "live" if layers else "cached", layers)  # type: ignore[arg-type]
    assert config.build().mean_D.shape == (expected,)


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"kind": "transformer"}, ("setting.choice", "gate=transformer")),
        ({"source": "disk"}, ("setting.choice", "gate_input=disk")),
        ({"layers": "2"}, ("setting.conflict", "gate_layers=2")),
        ({"pooling": "flatten", "source": "live"}, ("setting.conflict", "gate_input")),
        ({"pooling": "flatten", "kind": "attentive"}, ("setting.conflict", "gate_input")),
    ],
)
def test_settings_that_contradict_each_other_are_refused(arguments: dict[str, str], refusal: tuple[str, ...]) -> None:
    with refuses(*refusal):
        GateConfig(2, 8, **arguments)  # type: ignore[arg-type]


def test_layers_that_the_encoder_has_not_are_refused(tiny_whisper: Path) -> None:
    with refuses("setting.choice", "--embedding-layer 7"):
        GatingModule(2, 32, whisper_model=str(tiny_whisper), gate_input="live", gate_layers="7")
