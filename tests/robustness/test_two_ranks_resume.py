"""A training on two ranks that is stopped within an epoch goes on as one that never was."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.run.folder import RunDir
from tests.robustness.test_multi_process import ROOT, TWO_PROCESSES
from tests.stage_runs import callback

NUM_EPOCHS, BATCHES_OF_AN_EPOCH = 2, 4
STOPPED_AFTER = BATCHES_OF_AN_EPOCH + 2
"""Batches of each rank: the second epoch is half done; the last of them is in no checkpoint."""


def train(run: RunDir, model: Path, *flags: str) -> int:
    """Pre-train the experts by the command as it is typed; gives its exit code."""
    command = [sys.executable, "-m", "moe_lightning.experts", "fit", "--config", str(ROOT / "configs" / "experts.yaml")]
    command += ["--run_dir", str(run.path), "--model.whisper_model", str(model), "--ckpt_path", "last"]
    command += [part for name, value in TWO_PROCESSES.items() for part in (f"--trainer.{name}", value)]
    command += ["--trainer.max_epochs", str(NUM_EPOCHS), "--trainer.enable_progress_bar", "false"]
    command += ["--trainer.callbacks", "null", *callback("RecordOrder", file=run.path / "order"), *flags]
    command += ["--data.batch_size", "3", "--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    command += ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
    command += ["--resume.save_on_train_epoch_end", "null"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300).returncode


def orders(run: RunDir) -> list[list[str]]:
    """Ids of each batch that was trained on, by rank."""
    return [(run.path / f"order.{rank}").read_text().splitlines() for rank in range(2)]


@pytest.fixture
def runs(clustered_run: Path, tmp_path: Path) -> tuple[RunDir, RunDir]:
    """Two copies of a run that has no experts yet."""
    for name in ("whole", "stopped"):
        shutil.copytree(clustered_run, tmp_path / name)
    return RunDir(tmp_path / "whole"), RunDir(tmp_path / "stopped")


def test_a_signal_to_the_first_rank_ends_both_behind_the_same_step(
    runs: tuple[RunDir, RunDir], tiny_whisper: Path
) -> None:
    _, stopped = runs
    signal_itself = callback("SignalItself", number=15, hook="on_train_batch_start", num_calls=3)
    assert train(stopped, tiny_whisper, *signal_itself) == 143
    assert [len(order) for order in orders(stopped)] == [3, 3]
    assert train(stopped, tiny_whisper) == 0
    counts = Counter(id_ for order in orders(stopped) for line in order for id_ in line.split())
    assert (len(counts), set(counts.values())) == (24, {NUM_EPOCHS}), "nothing is repeated, nothing left out"


def test_two_ranks_go_on_with_exactly_the_next_utterances(runs: tuple[RunDir, RunDir], tiny_whisper: Path) -> None:
    whole, stopped = runs
    assert train(whole, tiny_whisper) == 0
    assert train(stopped, tiny_whisper, *callback("StopAfter", num_batches=STOPPED_AFTER)) != 0
    for before, expected in zip(orders(stopped), orders(whole), strict=True):
        assert len(expected) == NUM_EPOCHS * BATCHES_OF_AN_EPOCH
        assert before == expected[:STOPPED_AFTER]
    assert train(stopped, tiny_whisper) == 0
    for found, expected in zip(orders(stopped), orders(whole), strict=True):
        assert found[STOPPED_AFTER:] == expected[STOPPED_AFTER - 1 :]
    expected_state, found_state = (load_file(run.pretrained_experts_file) for run in (whole, stopped))
    assert all(torch.equal(expected_state[name], found_state[name]) for name in expected_state)
