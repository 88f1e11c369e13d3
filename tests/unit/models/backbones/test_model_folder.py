"""Damaged folders of speech models end in one line that names the file, the tensor or the field."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging as hf_logging

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.loading import load_backbone, resolve_window
from moe_lightning.models.backbones.names import resolve_name
from moe_lightning.models.backbones.pretrained import load_ctc, load_whisper
from tests.ctc_models import write_ctc
from tests.refusals import refuses

POSITIONS = "model.encoder.embed_positions.weight"


@pytest.fixture
def whisper(tiny_whisper: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_whisper, tmp_path / "whisper"))


@pytest.fixture
def ctc(tiny_ctc: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_ctc, tmp_path / "ctc"))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    """Rewrite a model's weights; returns them as they were."""
    weights = load_file(folder / "model.safetensors")
    changed = dict(weights)
    change(changed)
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return weights


def without(folder: Path, start: str) -> dict[str, Tensor]:
    """Take the tensors out of a model's weights whose names begin so; returns them."""
    named = [name for name in load_file(folder / "model.safetensors") if name.startswith(start)]
    weights = change_weights(folder, lambda changed: [changed.pop(name) for name in named])
    return {name: weights[name] for name in named}


def change_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(str(folder))
    line = str(caught.value)
    assert str(folder) in line
    assert "\n" not in line
    return line


def test_a_whisper_without_the_tensors_of_a_layer_is_refused(whisper: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = hf_logging.get_verbosity()
    taken = without(whisper, "model.decoder.layers.1.")
    line = refusal(whisper)
    assert f"{len(taken)} tensors" in line
    assert min(taken) in line
    assert "MISSING" not in capfd.readouterr().err
    assert hf_logging.get_verbosity() == level


def test_tensors_that_transformers_ties_or_computes_may_be_missing(whisper: Path) -> None:
    positions = without(whisper, POSITIONS)[POSITIONS]
    assert "proj_out.weight" not in load_file(whisper / "model.safetensors")
    model, _ = load_whisper(str(whisper))
    assert torch.equal(model.model.encoder.embed_positions.weight, positions)
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(whisper: Path) -> None:
    name = "model.encoder.layers.0.fc1.bias"
    change_weights(whisper, lambda weights: weights.update({name: torch.zeros(7)}))
    line = refusal(whisper)
    assert name in line
    assert "(7,), not (64,)" in line


def test_tensors_without_a_place_in_the_model_are_counted_in_a_warning(whisper: Path) -> None:
    change_json(whisper / "config.json", decoder_layers=1)
    with pytest.warns(UserWarning, match=r"model\.decoder\.layers\.1\."):
        load_backbone(str(whisper))


@pytest.mark.parametrize("start", ["lm_head.", "wav2vec2.encoder.layers.1.", "wav2vec2.encoder.pos_conv_embed."])
def test_a_ctc_model_without_some_of_its_tensors_is_refused(ctc: Path, start: str) -> None:
    taken = without(ctc, start)
    line = refusal(ctc)
    assert f"{len(taken)} tensors" in line
    assert min(taken) in line


def test_a_ctc_model_may_lack_the_mask_of_its_first_training(ctc: Path) -> None:
    assert len(without(ctc, "wav2vec2.masked_spec_embed")) == 1
    assert load_backbone(str(ctc)).embedding_dim == 32


def test_weight_norm_under_its_old_names_is_read(ctc: Path) -> None:
    start = "wav2vec2.encoder.pos_conv_embed.conv."
    names = {f"{start}parametrizations.weight.original{index}": f"{start}weight_{'gv'[index]}" for index in (0, 1)}
    weights = change_weights(ctc, lambda changed: [changed.update({names[n]: changed.pop(n)}) for n in names])
    loaded = load_ctc(str(ctc)).model.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in names)


def test_an_encoder_is_read_from_the_weights_of_a_ctc_model_and_not_the_reverse(ctc: Path, tmp_path: Path) -> None:
    change_json(ctc / "config.json", architectures=["Wav2Vec2Model"])
    with pytest.warns(UserWarning, match=r"2 tensors .*lm_head"):
        assert load_backbone(str(ctc)).embedding_dim == 32
    encoder = write_ctc(tmp_path / "encoder", has_head=False)
    change_json(encoder / "config.json", architectures=["Wav2Vec2ForCTC"])
    assert "lm_head.bias" in refusal(encoder)


@pytest.mark.parametrize("settings", [{}, {"eos_token_id": 257, "is_multilingual": None}])
def test_generation_settings_that_hold_nothing_of_whispers_are_refused(whisper: Path, settings: dict[str, Any]) -> None:
    (whisper / "generation_config.json").write_text(json.dumps(settings))
    assert "generation_config.json" in refusal(whisper)


@pytest.mark.parametrize("field", ["suppress_tokens", "begin_suppress_tokens"])
def test_one_setting_of_whispers_is_enough(whisper: Path, field: str) -> None:
    (whisper / "generation_config.json").write_text(json.dumps({field: []}))
    assert load_whisper(str(whisper))[0].generation_config.to_dict()[field] == []


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_weights_that_were_cut_short_are_named(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    line = refusal(folder)
    assert "model.safetensors is damaged" in line
    assert "v2, v3" not in line


def test_a_shard_that_was_cut_short_is_named(whisper: Path) -> None:
    shard = "model-00001-of-00001.safetensors"
    weights = load_file(whisper / "model.safetensors")
    (whisper / "model.safetensors").rename(whisper / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    (whisper / "model.safetensors.index.json").write_text(json.dumps(index))
    load_backbone(str(whisper))
    (whisper / shard).write_bytes((whisper / shard).read_bytes()[:1000])
    assert f"{shard} is damaged" in refusal(whisper)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ['{"is_multi', "[]", ""])
def test_a_broken_json_file_is_named(whisper: Path, name: str, text: str) -> None:
    (whisper / name).write_text(text)
    line = refusal(whisper)
    assert f" {name} is damaged" in line
    assert "v2, v3" not in line


@pytest.mark.parametrize(("kept", "missing"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_half_of_a_tokenizer_is_refused_by_the_name_of_the_other_half(whisper: Path, kept: str, missing: str) -> None:
    vocab = json.loads((whisper / "tokenizer.json").read_text())["model"]["vocab"]
    (whisper / "tokenizer.json").unlink()
    (whisper / "vocab.json").write_text(json.dumps(vocab))
    (whisper / "merges.txt").write_text("#version: 0.2\n")
    load_backbone(str(whisper))
    (whisper / missing).unlink()
    assert (whisper / kept).exists()
    assert f"it lacks {missing};" in refusal(whisper)


@pytest.mark.parametrize("trained", ["nope", "auto", 0, 31, None, [30], 10**400])
def test_a_trained_window_that_is_none_is_named_by_file_and_field(whisper: Path, trained: Any) -> None:
    change_json(whisper / "config.json", trained_window=trained)
    with pytest.raises(InputError) as caught:
        resolve_window("auto", str(whisper))
    for line in (str(caught.value), refusal(whisper)):
        assert all(word in line for word in ("config.json", str(whisper), "trained_window", repr(trained)))


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("base", "openai/whisper-base"),
        ("whisper-small.en", "openai/whisper-small.en"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("large", "openai/whisper-large-v3"),
        ("v2", "openai/whisper-large-v2"),
        ("someone/whisper-base", "someone/whisper-base"),
    ],
)
def test_the_names_that_everybody_uses_are_known(name: str, hub_id: str) -> None:
    assert resolve_name(name) == hub_id


def test_a_folder_goes_before_a_name_and_another_word_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_name("base") == "base"
    with refuses("model.unknown", "bas"):
        resolve_name("bas")


def test_an_adapter_alone_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with refuses("model.incomplete", ["config.json"]) as refused:
        load_backbone(str(tmp_path))
    assert "merge_and_unload" in str(refused.value)
