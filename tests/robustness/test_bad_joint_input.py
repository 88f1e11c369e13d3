"""The joint stage refuses what does not fit it in one line when it starts, and leaves nothing half-written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_lightning.data.manifest import read_manifest, write_manifest
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.checkpoint import read_expert_config, save_experts
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.lora import find_targets
from moe_lightning.run.folder import RunDir
from tests.refusals import Refusals, fit_arguments


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)


@pytest.fixture
def own_run(pretrained_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the run whose gate and experts are trained, two of them, to spoil."""
    return RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))


def soft_labels(run: RunDir, file: Path, num_experts: int, prefix: str = "") -> Path:
    """The run's soft labels with so many columns, of utterances whose ids begin with a prefix."""
    rows = json.loads(run.all_soft_labels_files()[0].read_text())
    probs = [1 / num_experts] * num_experts
    file.write_text(json.dumps([{"id": prefix + row["id"], "probs": probs} for row in rows]))
    return file


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.routing", "soft"], "model.routing"),
        (["--model.top_k", "3"], "top_k must be in 1..2, the number of experts, got 3"),
        (["--model.top_k", "0"], "top_k must be in 1..2, the number of experts, got 0"),
        (["--model.routing_schedule", "[merge]"], "takes entries MODE:EPOCHS such as merge:2"),
        (["--model.routing_schedule", "[soft:2]"], "got 'soft:2'"),
        (["--model.gate_temperature", "0"], "gate_temperature must be above 0, got 0"),
        (["--model.gate_temperature_start", "-1"], "gate_temperature_start must be above 0, got -1"),
        (["--model.min_expert_prob", "0.5"], "min_expert_prob must be at least 0 and under 1 / 2"),
        (["--model.gate_training.router_noise", "-0.1"], "router_noise must be at least 0, got -0.1"),
        (["--model.gate_training.z_weight", "-1"], "z_weight must be at least 0, got -1"),
        (["--model.gate_training.pull_until", "0"], "pull_until must be in (0, 1], a share of the training, got 0"),
        (["--model.gate_training.lr_factor", "-1"], "lr_factor must be at least 0, got -1"),
        (["--model.refinement.gate_learning_rate", "0"], "refinement.gate_learning_rate must be over 0, got 0"),
        (["--model.rank", "8"], "rank is decided in the stage experts"),
        (["--model.gate", "attentive"], "gate is decided in the stage gating"),
        (["--model.max_skipped_batches", "-1"], "max_skipped_batches must be at least 0, got -1"),
    ],
)
def test_a_value_out_of_range_is_named_when_the_stage_starts(
    flags: list[str], words: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    assert words in refused("moe.__main__", *fit_arguments(own_run, "moe", tiny_whisper, *flags))
    assert not own_run.record_file("moe").exists()


def test_more_experts_in_the_soft_labels_than_were_trained_are_refused(
    refused: Refusals, own_run: RunDir, tiny_whisper: Path, tmp_path: Path
) -> None:
    file = soft_labels(own_run, tmp_path / "three_soft.json", num_experts=3)
    line = refused("moe.__main__", *fit_arguments(own_run, "moe", tiny_whisper, "--data.soft_labels_file", file))
    assert f"was trained in {own_run.path} for 2 experts, the soft labels have 3" in line
    assert "--data.soft_labels_file" in line
    assert not list(own_run.stage_dir("moe").glob("stage.json*"))


@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
def test_trained_weights_are_not_validated_on_soft_labels_of_more_experts(
    stage: str, refused: Refusals, finished_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    file = soft_labels(RunDir(finished_run), tmp_path / "three_soft.json", num_experts=3)
    arguments = fit_arguments(RunDir(finished_run), stage, tiny_whisper, "--data.soft_labels_file", file)
    line = refused(f"{stage}.__main__", "validate", *arguments[1:])
    words = {
        "gating": "does not fit",
        "experts": "num_experts was 2 when the experts were pre-trained, now 3",
        "moe": "for 2 experts, the soft labels have 3",
    }
    assert words[stage] in line


@pytest.mark.parametrize("stage", ["experts", "moe"])
def test_soft_labels_of_other_utterances_are_refused(
    stage: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path, tmp_path: Path
) -> None:
    shutil.rmtree(own_run.stage_dir(stage), ignore_errors=True)  # type: ignore[arg-type]
    file = soft_labels(own_run, tmp_path / "other_soft.json", num_experts=2, prefix="other_")
    line = refused(f"{stage}.__main__", *fit_arguments(own_run, stage, tiny_whisper, "--data.soft_labels_file", file))
    assert "'other_" in line
    assert not own_run.record_file(stage).exists()  # type: ignore[arg-type]


@pytest.mark.parametrize(("flag", "value"), [("routing", "loss"), ("routing_schedule", "[loss:1]")])
def test_a_routing_that_the_backbone_cannot_decode_by_is_refused_with_those_that_it_can(
    flag: str, value: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WhisperBackbone, "averages", ("arithmetic",))
    line = refused("moe.__main__", *fit_arguments(own_run, "moe", tiny_whisper, f"--model.{flag}", value))
    assert "a WhisperBackbone cannot decode by the routing loss" in line
    assert line.endswith("it can by merge, top_k, hard, posterior, confidence [setting.choice]")


def other_whisper(tiny_whisper: Path, folder: Path) -> Path:
    """A model of the same shape and other weights."""
    copied = Path(shutil.copytree(tiny_whisper, folder))
    weights = load_file(copied / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    return copied


@pytest.mark.parametrize("kind", ["another architecture", "another size", "other weights"])
def test_experts_of_another_backbone_are_refused(
    kind: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path, tiny_ctc: Path, tmp_path: Path
) -> None:
    config = read_expert_config(own_run.pretrained_experts_file)
    if kind == "another architecture":
        save_experts(SpeechExperts(load_backbone(str(tiny_ctc)), config), own_run.pretrained_experts_file, "")
    elif kind == "another size":
        backbone = load_backbone(str(tiny_whisper))
        for name in find_targets(backbone.model, config.target_modules):
            parent, _, child = name.rpartition(".")
            setattr(backbone.model.get_submodule(parent), child, torch.nn.Linear(48, 48))
        save_experts(SpeechExperts(backbone, config), own_run.pretrained_experts_file, "")
    else:
        other = str(other_whisper(tiny_whisper, tmp_path / "other"))
        save_experts(SpeechExperts(load_backbone(other), config), own_run.pretrained_experts_file, other)
    line = refused("moe.__main__", *fit_arguments(own_run, "moe", tiny_whisper))
    assert f"the experts of {own_run.path} do not fit the joint stage" in line
    words = {
        "another architecture": "the experts are of another backbone",
        "another size": "or the backbone is of another size",
        "other weights": "on other weights they mean nothing",
    }
    assert words[kind] in line
    assert not list(own_run.stage_dir("moe").glob("stage.json*"))


@pytest.mark.parametrize("stage", ["experts", "moe"])
@pytest.mark.parametrize("split", ["train", "dev"])
def test_transcripts_that_whisper_cannot_hold_are_named_before_anything_is_trained(
    split: str, stage: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    shutil.rmtree(own_run.stage_dir(stage), ignore_errors=True)  # type: ignore[arg-type]
    utterances = read_manifest(own_run.manifest_file(split))
    utterances[4] = replace(utterances[4], text="x" * 445)
    write_manifest(utterances, own_run.manifest_file(split))
    line = refused(f"{stage}.__main__", *fit_arguments(own_run, stage, tiny_whisper))
    assert f"1 of 30 transcripts cannot be trained on ({utterances[4].id!r})" in line
    assert "has 446 tokens; Whisper holds 444; split the recording; then begin another --run-dir" in line
    assert not list(own_run.stage_dir(stage).glob("stage.json*"))  # type: ignore[arg-type]


def test_a_transcript_that_just_fits_is_trained_on(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper))
    backbone.check_text("x" * 443, "en")
    backbone.check_text("short", None)
    assert backbone.targets(["x" * 443], ["en"]).inputs_BS.shape[1] == 448


@pytest.mark.parametrize("command", ["evaluation", "inference"])
def test_decoding_by_a_routing_that_there_is_none_of_is_refused(
    command: str, refused: Refusals, finished_run: Path, tiny_corpus: Path
) -> None:
    files = [tiny_corpus / "test_0.wav"] if command == "inference" else ["--split", "dev", "--num-workers", "0"]
    line = refused(f"{command}.__main__", *files, "--run-dir", finished_run, "--routing", "soft")
    assert "routing must be one of merge, top_k, hard, posterior, confidence, loss, got 'soft'" in line
