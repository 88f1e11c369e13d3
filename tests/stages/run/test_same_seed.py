"""Two runs with one seed agree bit for bit on a CPU, stage by stage, in other processes and with other workers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import stage_records
from moe_lightning.run.stages import Stage
from tests.places import ROOT

SAME_BYTES: dict[Stage, tuple[str, ...]] = {
    "corpus": ("train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz", "recordings.json", "left_out.json"),
    "embedding": ("*/embeddings_*.npy", "*/embeddings_*.json", "*/mapping.json", "*/store.json"),
    "clustering": ("Spectral.json", "Spectral_soft.json", "clusterer.safetensors", "clusterer.json"),
    "gating": ("best.pt",),
    "experts": ("experts.safetensors",),
    "moe": ("mixture.safetensors", "mixture.json", "gating_model.pt", "expert_*/adapter_model.safetensors"),
    "evaluation": ("hypotheses.jsonl",),
}
"""Of each stage's files, those without a time or a folder's name in them."""


@pytest.fixture(scope="module")
def other_run(tiny_corpus: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run of `evaluated_run` once more: in another process, with another order of sets, with two workers."""
    run = RunDir(tmp_path_factory.mktemp("other") / "run")
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.chain", str(run.path), str(tiny_corpus), str(tiny_whisper), "2"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.mark.parametrize("stage", SAME_BYTES)
def test_a_stage_writes_the_same_bytes(stage: Stage, evaluated_run: RunDir, other_run: RunDir) -> None:
    for glob in SAME_BYTES[stage]:
        files = sorted(evaluated_run.stage_dir(stage).glob(glob))
        assert files, glob
        for file in files:
            other = other_run.path / file.relative_to(evaluated_run.path)
            assert file.read_bytes() == other.read_bytes(), file.name


def test_the_records_tell_so_without_reading_a_file(evaluated_run: RunDir, other_run: RunDir) -> None:
    for stage, globs in SAME_BYTES.items():
        first, second = (
            {
                name: state["sha256"]
                for name, state in stage_records(run)[stage]["files"].items()
                if any((run.path / name).match(glob) for glob in globs)
            }
            for run in (evaluated_run, other_run)
        )
        assert first
        assert first == second


@pytest.mark.parametrize("stage", ["gating", "experts", "moe"])
@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_checkpoints_hold_the_same_weights_and_the_same_state_of_the_optimizer(
    stage: Stage, name: str, evaluated_run: RunDir, other_run: RunDir
) -> None:
    first, second = (
        torch.load(run.checkpoint_dir(stage) / name, weights_only=True) for run in (evaluated_run, other_run)
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert is_same(first[part], second[part]), part


def test_the_scores_and_their_intervals_are_the_same(evaluated_run: RunDir, other_run: RunDir) -> None:
    first, second = (json.loads(run.results_file.read_text()) for run in (evaluated_run, other_run))
    for results in (first, second):
        for system in results["systems"].values():
            del system["seconds"], system["real_time_factor"]
    for part in ("systems", "comparisons", "experts", "verdict"):
        assert first[part] == second[part]


def is_same(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
