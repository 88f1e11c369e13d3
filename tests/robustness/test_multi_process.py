"""Two processes on the CPU do what one does: the commands as they are typed, started as Lightning starts ranks."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.run.folder import RunDir
from tests.places import ROOT
from tests.stage_runs import callback, fit

TWO_PROCESSES = {"accelerator": "cpu", "devices": "2", "strategy": "ddp"}
NUM_EPOCHS = 2


def run_command(stage: str, *arguments: object) -> str:
    """Output of a stage's own process; it must end well and keep silent about faults."""
    command = [sys.executable, "-m", f"moe_lightning.{stage}", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def joint_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The joint stage, two epochs on two ranks."""
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path_factory.mktemp("two_ranks") / "run")))
    flags = [part for name, value in TWO_PROCESSES.items() for part in (f"--trainer.{name}", value)]
    flags += ["--trainer.max_epochs", str(NUM_EPOCHS), "--trainer.enable_progress_bar", "false"]
    flags += ["--trainer.callbacks", "null", *callback("RecordOrder", file=run.path / "order")]
    flags += ["--data.batch_size", "4", "--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    flags += ["--model.refinement.num_rounds", "1"]
    command = ["fit", "--config", ROOT / "configs" / "moe.yaml", "--run_dir", run.path]
    run_command("moe", *command, *flags, "--ckpt_path", "last")
    return run


def test_the_joint_stage_moves_every_expert_and_the_gate(joint_run: RunDir) -> None:
    before, after = load_file(joint_run.pretrained_experts_file), load_file(joint_run.mixture_file)
    rank = 16
    for name in before:
        for expert in range(2):
            rows = slice(expert * rank, (expert + 1) * rank)
            assert not torch.equal(before[name][rows], after[name][rows]), f"{name} of expert {expert}"
    gate_before = torch.load(joint_run.gate_file, weights_only=True)
    gate_after = torch.load(joint_run.joint_gate_file, weights_only=True)
    assert not torch.equal(gate_before["output.weight"], gate_after["output.weight"])


def test_each_utterance_is_trained_on_once_an_epoch_over_both_ranks(joint_run: RunDir) -> None:
    orders = [(joint_run.path / f"order.{rank}").read_text().splitlines() for rank in range(2)]
    assert len(orders[0]) == len(orders[1])
    assert not (joint_run.path / "order").exists()
    num_steps = len(orders[0]) // NUM_EPOCHS
    for epoch in range(NUM_EPOCHS):
        lines = [line for order in orders for line in order[epoch * num_steps : (epoch + 1) * num_steps]]
        counts = Counter(id_ for line in lines for id_ in line.split())
        assert set(counts.values()) == {1}
        assert len(counts) == 24


def test_a_round_of_refinement_is_that_of_one_process(
    joint_run: RunDir, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    one_epoch = ["--trainer.max_epochs", "1"]
    fit("moe", run.path, tiny_whisper, *one_epoch, "--model.refinement.num_rounds", "1", "--data.batch_size", "4")
    one, two = (SoftLabels.load(where.refined_soft_labels_file(1)) for where in (run, joint_run))
    assert one.ids == two.ids
    np.testing.assert_allclose(two.probs_NE, one.probs_NE, atol=1e-4)


def test_one_rank_keeps_the_record_and_the_files_of_the_stage(joint_run: RunDir) -> None:
    record = json.loads(joint_run.record_file("moe").read_text())
    assert record["stage"] == "moe"
    assert not list(joint_run.stage_dir("moe").glob("stage.json?*"))
    assert not list(joint_run.stage_dir("moe").rglob("*-v1*")), "no rank has saved beside another"
    for file in (joint_run.best_file, joint_run.expert_dir(1) / "adapter_config.json"):
        assert file.exists()


def test_the_store_of_two_processes_is_the_store_of_one(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), run.stage_dir("corpus"))
    flags = [part for name, value in TWO_PROCESSES.items() for part in (f"--{name}", value)]
    run_command(
        "embedding",
        "--run-dir",
        run.path,
        "--whisper-model",
        tiny_whisper,
        "--num-workers",
        0,
        "--batch-size",
        5,
        *flags,
    )
    one, two = (EmbeddingStore.load(RunDir(path).embedding_dirs()[0]) for path in (clustered_run, run.path))
    assert one.ids == two.ids
    assert one.info == two.info
    np.testing.assert_allclose(two.embeddings_ND, one.embeddings_ND, atol=1e-5)
    assert run.record_file("embedding").exists()
