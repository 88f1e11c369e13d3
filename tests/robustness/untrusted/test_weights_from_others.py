"""Weights that would run code as they are unpickled: every command that reads them refuses, and runs nothing."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from moe_lightning.data.shards import read_array
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.weights import read_checkpoint, read_metadata, read_state, read_tensors
from moe_lightning.run.folder import RunDir
from tests.refusals import Refusals, fit_arguments, refuses


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """What would be there if somebody's code had run."""
    return tmp_path / "code_was_run"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)


def zipped(file: Path, trace: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2), "more": Malicious(trace)}}, file)


def old(file: Path, trace: Path) -> None:
    torch.save({"state_dict": Malicious(trace)}, file, _use_new_zipfile_serialization=False)


def bare(file: Path, trace: Path) -> None:
    file.write_bytes(pickle.dumps(Malicious(trace)))


def array(file: Path, trace: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.array([Malicious(trace)], dtype=object), allow_pickle=True)


def arrays(file: Path, trace: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, allow_pickle=True, a=np.array([Malicious(trace)], dtype=object))


WRITERS = (zipped, old, bare, array, arrays)


@pytest.mark.parametrize("write", WRITERS)
def test_these_files_do_run_code_when_they_are_trusted(write: Callable[..., None], tmp_path: Path, trace: Path) -> None:
    write(tmp_path / "file", trace)
    if write in (zipped, old):
        torch.load(tmp_path / "file", weights_only=False)
    elif write is bare:
        pickle.loads((tmp_path / "file").read_bytes())
    else:
        loaded = np.load(tmp_path / "file", allow_pickle=True)
        loaded if write is array else loaded["a"]
    assert trace.exists()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("read", [read_state, read_checkpoint, read_tensors, read_metadata])
def test_no_reader_of_weights_runs_code(
    read: Callable[[Path, str], Any], write: Callable[..., None], tmp_path: Path, trace: Path
) -> None:
    write(tmp_path / "file", trace)
    with pytest.raises(InputError) as refused:
        read(tmp_path / "file", "the command")
    assert refused.value.code in ("file.refused", "file.unreadable")
    assert not trace.exists()


@pytest.mark.parametrize("write", WRITERS)
def test_no_reader_of_arrays_runs_code(write: Callable[..., None], tmp_path: Path, trace: Path) -> None:
    write(tmp_path / "file", trace)
    with pytest.raises(InputError) as refused:
        read_array(tmp_path / "file")
    assert refused.value.code in ("file.malformed", "file.unreadable")
    assert not trace.exists()


def test_a_refusal_names_what_would_have_run(tmp_path: Path, trace: Path) -> None:
    zipped(tmp_path / "gate.pt", trace)
    with refuses("file.refused", "gate.pt"):
        read_state(tmp_path / "gate.pt", "the command")


def test_a_state_that_is_no_tensors_by_name_is_refused(tmp_path: Path) -> None:
    for state in ([1, 2], {"weight": 3}, torch.zeros(2)):
        torch.save(state, tmp_path / "gate.pt")
        with refuses("file.malformed", "gate.pt"):
            read_state(tmp_path / "gate.pt", "the command")


# the commands


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))


@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
def test_resuming_from_a_malicious_checkpoint_is_refused(
    stage: str, own_run: RunDir, tiny_whisper: Path, refused: Refusals, trace: Path
) -> None:
    own_run.record_file(stage).unlink()  # type: ignore[arg-type]
    file = own_run.checkpoint_dir(stage) / "last.ckpt"  # type: ignore[arg-type]
    zipped(file, trace)
    flags = fit_arguments(own_run, stage, tiny_whisper, "--ckpt_path", str(file), "--trainer.max_epochs", "3")
    assert f"{file} is refused: it holds posix.mkdir" in refused(f"{stage}.__main__", *flags)
    assert not trace.exists()


@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
def test_validating_a_malicious_checkpoint_is_refused(
    stage: str, own_run: RunDir, tiny_whisper: Path, refused: Refusals, trace: Path
) -> None:
    file = own_run.checkpoint_dir(stage) / "best.ckpt"  # type: ignore[arg-type]
    zipped(file, trace)
    _, *flags = fit_arguments(own_run, stage, tiny_whisper)
    assert str(file) in refused(f"{stage}.__main__", "validate", *flags, "--ckpt_path", "best")
    assert not trace.exists()


def test_the_joint_stage_refuses_a_malicious_gate_and_malicious_experts(
    own_run: RunDir, tiny_whisper: Path, refused: Refusals, trace: Path
) -> None:
    shutil.rmtree(own_run.stage_dir("moe"))
    for file in (own_run.pretrained_experts_file, own_run.gate_file):
        good = file.read_bytes()
        zipped(file, trace)
        assert str(file) in refused("moe.__main__", *fit_arguments(own_run, "moe", tiny_whisper))
        file.write_bytes(good)
    assert not trace.exists()


def test_transcribe_and_evaluate_refuse_a_malicious_mixture(
    own_run: RunDir, tiny_corpus: Path, refused: Refusals, trace: Path
) -> None:
    zipped(own_run.mixture_file, trace)
    audio_file = next(tiny_corpus.glob("*.wav"))
    run = ("--run-dir", own_run.path, "--accelerator", "cpu")
    for command in (("inference.__main__", audio_file, *run), ("evaluation.__main__", *run)):
        assert f"{own_run.mixture_file} cannot be read as safetensors" in refused(*command)
    assert not trace.exists()


def test_changing_and_joining_experts_refuse_malicious_ones(
    own_run: RunDir, tmp_path: Path, refused: Refusals, trace: Path
) -> None:
    alone = RunDir(own_run.path, 0)
    alone.stage_dir("experts").mkdir()
    shutil.copy(own_run.record_file("experts"), alone.record_file("experts"))
    for file in (own_run.mixture_file, alone.pretrained_experts_file):
        bare(file, trace)
    run = ("--run-dir", own_run.path)
    assert str(alone.pretrained_experts_file) in refused("experts.__main__", "join", *run)
    drop = ("drop", "0", *run, "--output-dir", tmp_path / "smaller")
    assert str(own_run.mixture_file) in refused("experts.__main__", *drop)
    assert not trace.exists()


def test_a_speech_model_of_pickled_weights_is_refused(tiny_whisper: Path, tmp_path: Path, trace: Path) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    zipped(folder / "pytorch_model.bin", trace)
    with refuses("model.incomplete", ["model.safetensors"]):
        load_backbone(str(folder))
    assert not trace.exists()


def test_a_speech_model_that_brings_a_program_is_refused(tiny_whisper: Path, tmp_path: Path, trace: Path) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(trace)!r})\nclass Own: ...\n")
    with refuses("model.unknown", "model"):
        load_backbone(str(folder))
    assert not trace.exists()


def test_a_malicious_adapter_beside_a_speech_model_is_not_unpickled(
    tiny_whisper: Path, tmp_path: Path, trace: Path
) -> None:
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))
    adapter = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(folder)}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    zipped(folder / "adapter_model.bin", trace)
    with refuses("model.unknown", "model"):
        load_backbone(str(folder))
    assert not trace.exists()


def test_the_configs_in_a_run_from_others_are_never_instantiated(
    own_run: RunDir, tiny_corpus: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config of LightningCLI names classes to call, so it is a program; the stages write one beside their weights."""
    from moe_lightning.evaluation.__main__ import main as evaluate
    from moe_lightning.inference.__main__ import main as transcribe

    called = {"class_path": "os.mkdir", "init_args": {"path": str(trace)}}
    text = yaml.safe_dump({"trainer": {"callbacks": [called], "logger": called}, "model": called, "data": called})
    configs = list(own_run.path.glob("*/config.yaml"))
    assert len(configs) == 3
    for file in [*configs, own_run.path / "config.yaml"]:
        file.write_text(text)
    transcribe([str(next(tiny_corpus.glob("*.wav"))), "--run-dir", str(own_run.path), "--accelerator", "cpu"])
    evaluate(["--run-dir", str(own_run.path), "--accelerator", "cpu", "--num-resamples", "100"])
    assert own_run.results_file.exists()
    assert not trace.exists()
