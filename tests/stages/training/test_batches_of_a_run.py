"""What the corpus gives a training, in trainings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch import Callback
from safetensors.torch import load_file

from moe_lightning.data.audio import read_audio
from moe_lightning.data.augmentation import Augmentation
from moe_lightning.data.manifest import read_manifest
from moe_lightning.run.folder import RunDir
from tests.corpora import write_audio
from tests.stage_runs import Stopped, callback, fit

AUGMENTED = ["--trainer.max_epochs", "2", "--data.batch_size", "8", "--data.max_seconds", "4"]
AUGMENTED += ["--data.speeds", "[0.9, 1.0, 1.1]", "--model.num_freq_masks", "2", "--model.num_time_masks", "2"]
FLOW = ["--trainer.callbacks+=moe_lightning.callbacks.data_flow.DataFlow", "--trainer.callbacks.every_n_steps", "1"]


class RunOut(Callback):
    """Stands for a device whose memory is full."""

    def on_train_batch_start(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def new_run(clustered_run, tmp_path):
    def make(name):
        shutil.copytree(clustered_run, tmp_path / name)
        return RunDir(tmp_path / name)

    return make


def test_an_augmented_training_by_seconds_resumes_as_if_never_stopped(new_run, tiny_whisper):
    whole, stopped = new_run("whole"), new_run("stopped")
    every_step = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
    every_step += ["--resume.save_on_train_epoch_end", "null"]
    fit("experts", whole.path, tiny_whisper, *AUGMENTED, *every_step)
    with pytest.raises(Stopped):
        fit("experts", stopped.path, tiny_whisper, *AUGMENTED, *every_step, *callback("StopAfter", num_batches=5))
    fit("experts", stopped.path, tiny_whisper, *AUGMENTED, *every_step, *FLOW)  # an epoch's rest has no beginning
    expected, found = load_file(whole.pretrained_experts_file), load_file(stopped.pretrained_experts_file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_padding_and_waiting_are_logged(new_run, tiny_whisper):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = new_run("run")
    fit("experts", run.path, tiny_whisper, "--trainer.max_epochs", "1", *FLOW)
    values = {}
    for file in run.tensorboard_dir.rglob("events.*"):
        events = EventAccumulator(str(file)).Reload()
        values |= {
            tag: [one.value for one in events.Scalars(tag)] for tag in events.Tags()["scalars"] if "data/" in tag
        }
    for tag in ("data/padding_share", "data/waiting_share"):
        assert values[tag]
        assert all(0 <= value < 1 for value in values[tag])
    assert any(value > 0 for value in values["data/padding_share"])


def test_running_out_of_memory_is_explained(new_run, tiny_whisper, capsys):
    with pytest.raises(SystemExit) as ended:
        fit(
            "experts",
            new_run("run").path,
            tiny_whisper,
            "--trainer.callbacks+=tests.stages.training.test_batches_of_a_run.RunOut",
        )
    assert ended.value.code == 2
    assert "error: out of memory at a batch of 4 utterances" in capsys.readouterr().err


def test_spectrograms_are_masked_in_training_only(tiny_whisper):
    from moe_lightning.experts.module import ExpertModule

    waveforms_BL, num_samples_B = torch.randn(2, 16_000), torch.tensor([16_000, 8_000])
    gate_BE = torch.full((2, 2), 0.5)
    torch.manual_seed(0)
    experts = ExpertModule(2, str(tiny_whisper), dropout=0.0, num_freq_masks=2, num_time_masks=2).experts
    masked = experts.encode(waveforms_BL, num_samples_B, gate_BE).values_BTD
    plain = experts.eval().encode(waveforms_BL, num_samples_B, gate_BE).values_BTD
    again = experts.eval().encode(waveforms_BL, num_samples_B, gate_BE).values_BTD
    assert not torch.allclose(masked, plain)
    assert torch.equal(plain, again)


class RecordLoudness(Callback):
    """Appends id and mean square of every utterance that is trained on to a file."""

    def __init__(self, file: str):
        self.file = Path(file)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with self.file.open("a") as lines:
            for id_, waveform_L, length in zip(batch.ids, batch.waveforms_BL, batch.num_samples_B, strict=True):
                lines.write(f"{trainer.current_epoch} {id_} {float(waveform_L[:length].square().mean())!r}\n")


def test_a_training_hears_the_noises_and_rooms_that_its_yaml_names(new_run, tiny_whisper, tmp_path):
    write_audio(tmp_path / "noises" / "hum.wav", 2.0)
    (tmp_path / "rooms").mkdir()
    soundfile.write(tmp_path / "rooms" / "hall.wav", np.exp(-np.arange(800) / 100), 16_000)
    folders = {"noise_dir": str(tmp_path / "noises"), "reverb_dir": str(tmp_path / "rooms")}
    settings = {**folders, "noise_share": 0.5, "snr_db": [0.0, 5.0], "reverb_share": 0.5, "speeds": [0.9, 1.1]}
    (tmp_path / "augmented.yaml").write_text(yaml.safe_dump({"data": settings, "trainer": {"max_epochs": 2}}))
    run = new_run("run")
    recorder = ["--trainer.callbacks+=tests.stages.training.test_batches_of_a_run.RecordLoudness"]
    recorder += ["--trainer.callbacks.file", str(tmp_path / "heard")]
    fit("experts", run.path, tiny_whisper, "--config", str(tmp_path / "augmented.yaml"), *recorder)
    assert run.pretrained_experts_file.exists()

    utterances = read_manifest(run.manifest_file("train"))
    rows = {utterance.id: row for row, utterance in enumerate(utterances)}
    augmentation = Augmentation.from_folders(**settings, seed=42)
    heard = [line.split() for line in (tmp_path / "heard").read_text().splitlines()]
    assert len(heard) == 2 * len(utterances)
    num_changed = 0
    for epoch, id_, mean_square in heard:
        plain_L = read_audio(utterances[rows[id_]])
        expected = float(np.square(augmentation(plain_L, int(epoch), rows[id_])).mean())
        assert float(mean_square) == pytest.approx(expected, rel=1e-4)
        num_changed += abs(expected - float(np.square(plain_L).mean())) > 1e-3 * expected
    assert num_changed > len(heard) / 2
