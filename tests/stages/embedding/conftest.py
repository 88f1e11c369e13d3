"""Runs that are to be embedded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_lightning.run.folder import RunDir
from tests.places import ROOT


@pytest.fixture
def corpus_run(clustered_run: Path, tmp_path: Path) -> RunDir:
    """A run of which only the corpus is done: 36 utterances."""
    run = RunDir(tmp_path / "run")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), run.stage_dir("corpus"))
    return run


@pytest.fixture
def killed_run(killed_once: Path, tmp_path: Path) -> RunDir:
    """A run whose embedding was killed with two shards of 8 utterances finished and a third begun."""
    shutil.copytree(killed_once, tmp_path / "killed")
    return RunDir(tmp_path / "killed")


@pytest.fixture(scope="session")
def killed_once(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = RunDir(tmp_path_factory.mktemp("killed_once") / "run")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), run.stage_dir("corpus"))
    assert embed_and_die(run, tiny_whisper, "SIGKILL", 5, "--batch-size", 4, "--shard-size", 8) == -9
    return run.path


def embed_and_die(run: RunDir, model: Path, number: str, num_batches: int, *flags: object) -> int:
    """Embed in a process of its own that gets a signal after so many batches; gives its exit code."""
    command = [sys.executable, "-m", "tests.stages.embedding.dying", number, num_batches]
    command += ["--run-dir", run.path, "--whisper-model", model, "--num-workers", 0, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, capture_output=True)
    return done.returncode
