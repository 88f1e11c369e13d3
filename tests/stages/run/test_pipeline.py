"""The whole pipeline as its users run it: real processes, real recordings, killed and started again."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.run.folder import RunDir
from tests.places import ROOT
from tests.recordings import CORPUS

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real recordings is not beside the project")
FEW_EPOCHS = [f"--set={stage}.trainer.max_epochs=2" for stage in ("gating", "experts", "moe")]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "moe_lightning", "pipeline", *map(str, arguments)]


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, check=False)


def check_files(path: Path, name: str, plot: str | None, num_experts: int, model: Path) -> None:
    """Everything of the guide's "Output Files", under its names."""
    run_dir = RunDir(path)
    files = ["clustered/clusterer.json", f"clustered/{name}.json", f"clustered/{name}_soft.json"]
    files += ["gating_model/best.pt", "gating_model/gating_pretrain_config.json", "asr/best.json"]
    files += ["asr/gating_model.pt", "training.log", "report/results.json", "report/index.html", "report/README.md"]
    files += [f"clustered/{plot}"] if plot else []
    files += [f"asr/expert_{expert}/adapter_model.safetensors" for expert in range(num_experts)]
    files += [f"{run_dir.embedding_dir(str(model)).relative_to(path)}/mapping.json"]
    missing = [file for file in files if not (path / file).exists()]
    assert not missing
    assert list(run_dir.embedding_dir(str(model)).glob("*.npy"))
    for stage in ("gating", "experts", "moe"):
        assert list((run_dir.tensorboard_dir / stage).glob("events.*"))
    results = json.loads(run_dir.results_file.read_text())
    assert {"backbone", "mixture"} <= results["systems"].keys()
    assert abs(sum(results["experts"]["usage"]) - 1) < 1e-3
    labels = HardLabels.load(run_dir.labels_file(name.lower()))
    assert SoftLabels.load(run_dir.soft_labels_file(name.lower())).ids == labels.ids


@needs_corpus
def test_a_run_on_real_recordings_with_hdbscan_ends_with_every_file(tiny_whisper: Path, tmp_path: Path) -> None:
    flags = ["--dataset-root", CORPUS / "smoke", "--allow-shared-speakers", "--whisper-model", tiny_whisper]
    flags += ["--clustering-algorithm", "hdbscan", "--run-dir", tmp_path / "run", "--num-workers", 0, *FEW_EPOCHS]
    done = run(*flags, "--no-plot", "--asr-batch-size", 16)
    assert done.returncode == 0, done.stdout + done.stderr
    num_experts = SoftLabels.load(tmp_path / "run" / "clustered" / "HDBSCAN_soft.json").num_experts
    assert num_experts >= 2
    check_files(tmp_path / "run", "HDBSCAN", None, num_experts, tiny_whisper)


@pytest.fixture(scope="module")
def spectral_run(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Flags of a run on real recordings that was killed in the middle of the joint stage, and then finished."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real recordings is not beside the project")
    path = tmp_path_factory.mktemp("spectral") / "run"
    flags: list[object] = ["--dataset-root", CORPUS / "smoke", "--allow-shared-speakers", "--run-dir", path]
    flags += ["--whisper-model", tiny_whisper, "--clustering-algorithm", "spectral", "--num-experts", 3]
    flags += ["--num-workers", 0, *FEW_EPOCHS, "--set=moe.trainer.max_epochs=6", "--set=moe.early_stopping.patience=9"]
    process = subprocess.Popen(command(*flags), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    last = RunDir(path).checkpoint_dir("moe") / "last.ckpt"
    deadline = time.monotonic() + 300
    while not last.exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not RunDir(path).record_file("moe").exists()
    done = run(*flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/7] corpus: finished before" in done.stdout
    return flags


def test_a_run_killed_in_the_joint_stage_is_finished_by_the_same_command(
    spectral_run: list[object], tiny_whisper: Path
) -> None:
    path = Path(str(spectral_run[4]))
    check_files(path, "Spectral", "spectral_umap.png", 3, tiny_whisper)
    log = (path / "training.log").read_text()
    assert "Restoring states from the checkpoint path" in log
    assert log.count("python -m moe_lightning.moe fit") == 2


def test_a_finished_run_answers_in_two_processor_seconds_that_nothing_is_left(
    spectral_run: list[object],
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(*spectral_run)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time: other work on the machine is not its fault
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert done.returncode == 0
    assert "nothing is left to do" in done.stdout


def test_a_run_folder_with_other_settings_is_refused_by_the_name_of_the_setting(spectral_run: list[object]) -> None:
    done = run(*spectral_run, "--num-experts", 4)
    assert done.returncode == 2
    assert "num_experts was 3, now 4" in done.stderr
    assert done.stderr.count("\n") == 1


def test_smaller_batches_and_more_accumulation_make_nothing_stale(spectral_run: list[object]) -> None:
    smaller = ["--expert-batch-size", 2, "--asr-batch-size", 1, "--gradient-accumulation-steps", 16, "--no-plot"]
    assert "nothing is left to do" in run(*spectral_run, *smaller).stdout


def test_audio_files_are_transcribed_one_line_each(spectral_run: list[object]) -> None:
    files = sorted((CORPUS / "audio").rglob("*.ogg"))[:2]
    transcribe = [sys.executable, "-m", "moe_lightning", "transcribe", "--run-dir", str(spectral_run[4])]
    done = subprocess.run([*transcribe, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(file) for file in files]


GUIDE_BASIC = "--mode full --clustering-algorithm spectral --num-experts 8"
GUIDE_ALL = (
    f"{GUIDE_BASIC} --seed 42 --whisper-model v2 --pooling mean --reduce pca --reduce-dim 50 --plot-method umap --fp16"
    " --gating-batch-size 512 --expert-batch-size 4 --asr-batch-size 2 --gradient-accumulation-steps 8 --num-workers 4"
    " --eval-every-n-epochs 1 --save-every-n-epochs 1 --log-file Runs/full/training.log"
)
GUIDE_RESUME = (
    f"{GUIDE_BASIC} --resume --fp16 --gating-batch-size 512 --expert-batch-size 4 --asr-batch-size 2"
    " --gradient-accumulation-steps 8 --num-workers 4 --log-file Runs/full/training.log"
)
GUIDE_MEMORY = (
    f"{GUIDE_BASIC} --fp16 --gating-batch-size 256 --expert-batch-size 2 --asr-batch-size 1"
    " --gradient-accumulation-steps 16 --num-workers 2 --resume --log-file Runs/full/training.log"
)
GUIDE_FAST = f"{GUIDE_BASIC} --data-percent 10 --fp16 --no-plot --log-file Runs/full/training.log"
GUIDE_QUICK = "--mode quick --clustering-algorithm spectral --num-experts 8 --fp16"


@pytest.fixture(scope="module")
def guide_flags(tiny_whisper: Path, big_corpus: Path) -> list[object]:
    """What fits the guide's commands to this machine: a tiny corpus and model, no GPU, few epochs."""
    return ["--dataset-root", big_corpus, "--whisper-model", tiny_whisper, "--no-fp16", *FEW_EPOCHS]


def test_the_guides_commands_share_one_run(guide_flags: list[object], tmp_path: Path) -> None:
    """The basic command trains; the full, the resuming and the memory-saving one find nothing left to do."""
    flags = [*guide_flags, "--run-dir", tmp_path / "full"]
    done = run(*GUIDE_BASIC.split(), *flags, "--num-workers", 0, "--asr-batch-size", 16, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for guide in (GUIDE_ALL, GUIDE_RESUME, GUIDE_MEMORY):
        done = run(*guide.split(), *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "nothing is left to do" in done.stdout


def test_the_guides_fast_iteration_runs_on_a_tenth(guide_flags: list[object], tmp_path: Path) -> None:
    done = run(*GUIDE_FAST.split(), *guide_flags, "--run-dir", tmp_path / "run", "--num-workers", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "Runs" / "full" / "training.log").exists()
    assert not list((tmp_path / "run" / "clustered").glob("*.png"))


def test_the_guides_quick_mode_takes_a_handful(guide_flags: list[object], tmp_path: Path) -> None:
    done = run(*GUIDE_QUICK.split(), *guide_flags, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    labels = HardLabels.load(tmp_path / "lightning_logs" / "quick" / "clustered" / "Spectral.json")
    assert len(labels.ids) == 10 + 5 + 5


def test_the_guides_standalone_clustering_works_unchanged(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    store = tmp_path / "Runs" / "full" / "embeddings" / "whisper_v2_embeddings"
    store.parent.mkdir(parents=True)
    store.symlink_to(RunDir(clustered_run).embedding_dir(str(tiny_whisper)))
    guide = "--embedding-dir Runs/full/embeddings/whisper_v2_embeddings --algorithm spectral"
    guide += " --output-dir Runs/full/clustered --pooling mean --reduce pca --reduce-dim 50 --plot umap"
    clustering = [sys.executable, "-m", "moe_lightning.clustering", *guide.split()]
    done = subprocess.run(clustering, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Runs/full/clustered/spectral_umap.png").exists()
