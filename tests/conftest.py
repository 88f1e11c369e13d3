"""Speech models and corpora that the tests make for themselves."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from moe_lightning.run.folder import RunDir
from tests.corpora import jsonl_corpus, real_corpus
from tests.ctc_models import write_ctc
from tests.stage_runs import fit
from tests.tones import write_tones
from tests.whisper_models import write_whisper

__all__ = ["jsonl_corpus", "real_corpus"]  # fixtures for all tests
TIERS = ("unit", "stages", "robustness")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that would reach for the hub fails at once
settings.register_profile("any machine", deadline=None)  # one that others use too makes no property untrue
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier: the folder that it lies in."""
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        assert tier in TIERS, f"{item.path} belongs in one of {', '.join(TIERS)}"
        item.add_marker(tier)


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Whisper model of random weights, as a hub folder looks: 2 + 2 layers of 32."""
    return write_whisper(tmp_path_factory.mktemp("tiny_whisper"))


@pytest.fixture(scope="session")
def tiny_ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a wav2vec 2.0 model of random weights with a CTC head; `write_ctc` has the other kinds."""
    return write_ctc(tmp_path_factory.mktemp("tiny_ctc"))


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train, dev and test manifests: 24 / 6 / 6 tones of two kinds of speakers, some stereo at 44.1 kHz."""
    return write_tones(tmp_path_factory.mktemp("tiny_corpus"), {"train": 24, "dev": 6, "test": 6})


@pytest.fixture(scope="session")
def big_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with enough utterances for eight experts on a tenth of them: 96 / 60 / 60."""
    return write_tones(tmp_path_factory.mktemp("big_corpus"), {"train": 96, "dev": 60, "test": 60})


@pytest.fixture(scope="session")
def clustered_run(tiny_corpus: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the stages corpus, embedding and clustering done (2 experts); copy it before writing to it."""
    from moe_lightning.clustering.__main__ import main as cluster
    from moe_lightning.corpus.__main__ import main as corpus
    from moe_lightning.embedding.__main__ import main as embed

    run = RunDir(tmp_path_factory.mktemp("run") / "tiny")
    corpus(["--dataset-root", str(tiny_corpus), "--run-dir", str(run.path)])
    embed(["--run-dir", str(run.path), "--whisper-model", str(tiny_whisper), "--num-workers", "0"])
    store, output = str(run.embedding_dir(str(tiny_whisper))), str(run.stage_dir("clustering"))
    spectral = ["--algorithm", "spectral", "--num-experts", "2", "--plot", "none"]
    cluster(["--embedding-dir", store, "--output-dir", output, *spectral])
    return run.path


@pytest.fixture(scope="session")
def frames_run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clustered run whose store holds the frames of layer 1 and the last one; copy it before writing to it."""
    from moe_lightning.clustering.__main__ import main as cluster
    from moe_lightning.embedding.__main__ import main as embed

    run = RunDir(tmp_path_factory.mktemp("frames") / "tiny")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), run.stage_dir("corpus"))
    frames = ["--store", "frames", "--embedding-layer", "1,last", "--frames-dtype", "float32"]
    embed(["--run-dir", str(run.path), "--whisper-model", str(tiny_whisper), "--num-workers", "0", *frames])
    store, output = str(run.embedding_dir(str(tiny_whisper))), str(run.stage_dir("clustering"))
    spectral = ["--algorithm", "spectral", "--num-experts", "2", "--plot", "none"]
    cluster(["--embedding-dir", store, "--output-dir", output, *spectral])
    return run.path


@pytest.fixture(scope="session")
def pretrained_run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with gate and experts trained as well; copy it before writing to it."""
    run = tmp_path_factory.mktemp("pretrained") / "tiny"
    shutil.copytree(clustered_run, run)
    fit("gating", run, tiny_whisper, "--trainer.max_epochs", "2")
    fit("experts", run, tiny_whisper, "--trainer.max_epochs", "1")
    return run


@pytest.fixture(scope="session")
def finished_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose joint stage is done as well; copy it before writing to it."""
    run = tmp_path_factory.mktemp("finished") / "tiny"
    shutil.copytree(pretrained_run, run)
    fit("moe", run, tiny_whisper, "--trainer.max_epochs", "1")
    return run


@pytest.fixture(scope="session")
def evaluated_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that was evaluated, unguarded: its tones are no speech. Copy it before writing to it."""
    from moe_lightning.evaluation.__main__ import main

    run = RunDir(Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("evaluated") / "run")))
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu", "--no-guard"])
    return run
