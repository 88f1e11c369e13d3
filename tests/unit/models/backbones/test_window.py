"""The window: what a model reads at least, and what lies in it beside the recording."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.loading import load_backbone, resolve_window
from moe_lightning.models.backbones.pooling import pool
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.backbones.window import parse_window
from tests.refusals import refuses
from tests.whisper_models import write_whisper

ONE_SECOND = (0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)), torch.tensor([16_000]))


@pytest.mark.parametrize(("window", "seconds"), [("auto", None), ("real", 0.0), ("15", 15.0), (2.5, 2.5), (30, 30.0)])
def test_a_window_is_auto_real_or_seconds(window: str | float, seconds: float | None) -> None:
    assert parse_window(window) == seconds


@pytest.mark.parametrize("window", ["0", -1, 30.5, "batch", "nan", "inf"])
def test_a_window_that_is_none_is_refused_with_its_value(window: str | float) -> None:
    with refuses("setting.range", f"window={window}"):
        parse_window(window)


@pytest.mark.parametrize(("trained", "seconds"), [(None, 30.0), ("real", 0.0), (10, 10.0)])
def test_auto_is_what_the_model_was_trained_with(tmp_path: Path, trained: str | float | None, seconds: float) -> None:
    folder = str(write_whisper(tmp_path, trained))
    backbone = load_backbone(folder)
    assert backbone.window == backbone.own_window == resolve_window("auto", folder) == seconds
    assert load_backbone(folder, "5").window == 5.0
    assert load_backbone(folder, "5").own_window == seconds


def test_nano_was_trained_over_real_lengths() -> None:
    assert resolve_window("auto", "nano") == 0.0


def test_shorter_audio_is_filled_up_and_longer_audio_keeps_its_length(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper), "2").eval()
    short = backbone.encode(backbone.features(*ONE_SECOND))
    assert short.values_BTD.shape[1] == 100
    assert (int(short.num_frames_B), int(short.num_read_B)) == (50, 100)
    long = backbone.encode(backbone.features(ONE_SECOND[0].repeat(1, 3), torch.tensor([48_000])))
    assert (long.values_BTD.shape[1], int(long.num_frames_B), int(long.num_read_B)) == (150, 150, 150)


def test_company_in_a_batch_does_not_change_what_is_read_of_the_window(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper), "2").eval()
    waveforms_BL = torch.nn.functional.pad(ONE_SECOND[0], (0, 40_000)).repeat(2, 1)
    with torch.no_grad():
        together = backbone.encode(backbone.features(waveforms_BL, torch.tensor([16_000, 56_000])))
        alone = backbone.encode(backbone.features(*ONE_SECOND))
    torch.testing.assert_close(together.values_BTD[0, :100], alone.values_BTD[0], atol=1e-4, rtol=0)
    options = DecodeOptions(max_tokens=12)
    texts = backbone.decode(together, ["en", "en"], options=options).texts
    assert texts[0] == backbone.decode(alone, ["en"], options=options).texts[0]


def test_only_real_frames_are_pooled(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper), "2").eval()
    with torch.no_grad():
        frames = backbone.encode(backbone.features(*ONE_SECOND))
    torch.testing.assert_close(pool(frames, "mean"), frames.values_BTD[:, :50].mean(dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["generation_config.json", "tokenizer.json", "model.safetensors"])
def test_a_whisper_folder_that_lacks_a_part_is_refused_by_the_parts_name(
    tiny_whisper: Path, tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "half"))
    (folder / part).unlink()
    (folder / "vocab.json").unlink(missing_ok=True)
    with refuses("model.incomplete", [part]):
        load_backbone(str(folder))


def test_a_whisper_of_which_one_shard_of_weights_is_missing_is_refused_by_its_name(
    tiny_whisper: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "half"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(InputError, match="model-00002-of-00002"):
        load_backbone(str(folder))
