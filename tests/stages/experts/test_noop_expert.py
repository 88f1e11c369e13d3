"""What is noise to HDBSCAN becomes the last expert, which has no deltas, from the clustering to the decoding."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.run.folder import RunDir
from tests.refusals import Refusals, fit_arguments
from tests.stage_runs import fit
from tests.unit.models.test_lora import LANGUAGES, speech

HDBSCAN = ["--algorithm", "hdbscan", "--num-experts", "2", "--min-clusters", "2", "--plot", "none", "--no-report"]
QUICK = ["--trainer.max_epochs", "1", "--data.batch_size", "8"]


@pytest.fixture(scope="module")
def run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """All stages up to the joint one, two clusters and noise."""
    run = RunDir(tmp_path_factory.mktemp("noop") / "run")
    for stage in ("corpus", "embedding"):
        shutil.copytree(RunDir(clustered_run).stage_dir(stage), run.stage_dir(stage))  # type: ignore[arg-type]
    store, output = str(run.embedding_dir(str(tiny_whisper))), str(run.stage_dir("clustering"))
    cluster(["--embedding-dir", store, "--output-dir", output, "--noise", "noop", *HDBSCAN])
    fit("gating", run.path, tiny_whisper, "--trainer.max_epochs", "1")
    fit("experts", run.path, tiny_whisper, *QUICK, "--model.noop_expert", "true")
    fit("moe", run.path, tiny_whisper, *QUICK)
    return run


def test_the_soft_labels_have_a_column_of_noise_which_new_embeddings_get_too(run: RunDir, tiny_whisper: Path) -> None:
    soft, hard = SoftLabels.load(run.soft_labels_file("hdbscan")), HardLabels.load(run.labels_file("hdbscan"))
    assert soft.num_experts == 3
    assert set(hard.labels_N) <= {-1, 0, 1}
    assert soft.probs_NE[:, 2].max() > 0.1
    cluster(["predict", "--run-dir", str(run.path), "--embedding-dir", str(run.embedding_dir(str(tiny_whisper)))])
    predicted = SoftLabels.load(run.stage_dir("clustering") / "predicted" / "HDBSCAN_soft.json")
    np.testing.assert_allclose(predicted.of(soft.ids), soft.probs_NE, atol=1e-6)


def test_the_no_op_expert_is_routed_to_and_holds_nothing(run: RunDir) -> None:
    settings = json.loads(run.mixture_config_file.read_text())["experts"]
    assert (settings["num_experts"], settings["noop_expert"]) == (3, True)
    num_rows = 2 * settings["rank"] + settings["shared_rank"]
    state = load_file(run.mixture_file)
    assert {len(tensor) for name, tensor in state.items() if name.endswith("up_RD")} == {num_rows}
    assert state["gate.output.weight"].shape[0] == 3
    mixture = MixtureASR.load(run.mixture_files)
    for layer in mixture.experts.layers.values():
        layer.up_RD.data[mixture.config.experts.shared_rows] = 0
    gates = torch.eye(3)[[2, 2, 2]]
    texts = [mixture.experts.transcribe(*speech(), LANGUAGES, one).texts for one in (gates, None)]
    assert texts[0] == texts[1]


def test_a_no_op_expert_in_the_place_of_a_cluster_is_refused(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    flags = fit_arguments(run, "experts", tiny_whisper, "--model.noop_expert", "true")
    line = Refusals(capsys)("experts.__main__", *flags)
    assert "the last column of the run's soft labels is a cluster (--noise drop)" in line
    assert not run.record_file("experts").exists()


def test_a_no_op_expert_is_no_job_of_its_own(
    run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = ["--model.shared_rank", "0", "--model.assignment", "hard", "--data.expert", "2"]
    flags = fit_arguments(run, "experts", tiny_whisper, "--model.noop_expert", "true", *alone)
    assert "data.expert 2 is the no-op expert" in Refusals(capsys)("experts.__main__", *flags)


def test_noise_is_no_expert_of_an_algorithm_that_knows_none(
    run: RunDir, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--embedding-dir", run.embedding_dir(str(tiny_whisper)), "--output-dir", tmp_path / "out"]
    line = Refusals(capsys)("clustering.__main__", *flags, "--algorithm", "spectral", "--noise", "noop")
    assert "--noise noop makes an expert of what is noise to HDBSCAN, and --algorithm spectral knows no noise" in line
    assert not (tmp_path / "out").exists()
