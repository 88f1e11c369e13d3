"""A batch that does not fit is named, with a setting that helps; with it the same command goes on."""

import shutil
from pathlib import Path

import pytest
import torch

from moe_lightning.data.batches import GateBatch
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.manifest import read_manifest
from moe_lightning.embedding import module as embedding_module
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.evaluation import decode as decoding
from moe_lightning.evaluation.__main__ import main as evaluate
from moe_lightning.run.folder import RunDir
from moe_lightning.training.memory import described, explained
from tests.refusals import only_line, refuses
from tests.stage_runs import ask_for_too_much, callback, fit

EPOCHS = ["--trainer.max_epochs", "2", "--data.batch_size", "4"]


@pytest.mark.parametrize("stage", ["experts", "moe"])
def test_a_training_names_the_utterances_and_goes_on_with_smaller_batches(
    stage: str,
    clustered_run: Path,
    pretrained_run: Path,
    tiny_whisper: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run if stage == "moe" else clustered_run, tmp_path / "run")))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        fit(stage, run.path, tiny_whisper, *EPOCHS, *callback("RunOutOfMemory", id="train_7", epoch=1))
    line = only_line(ended.value.code, _without_warnings(capsys.readouterr().err))
    seconds = {one.id: one.duration for one in read_manifest(run.manifest_file("train"))}
    assert line.startswith("error: out of memory at a batch of 4 utterances, ")
    assert f"'train_7' {seconds['train_7']:.1f} s" in line
    assert "lower data.batch_size" in line
    assert "trainer.accumulate_grad_batches" in line
    order = callback("RecordOrder", file=tmp_path / "order")
    fit(stage, run.path, tiny_whisper, *EPOCHS, "--data.batch_size", "2", *order)
    batches = (tmp_path / "order").read_text().splitlines()
    assert sorted(" ".join(batches).split()) == sorted(seconds), "the second epoch alone: the first one was done"
    assert run.record_file(stage).exists()  # type: ignore[arg-type]


def test_so_does_a_validation(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    with pytest.raises(SystemExit):
        fit("experts", run.path, tiny_whisper, "--trainer.max_epochs", "1", *callback("RunOutOfMemory", id="dev_3"))
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: out of memory at a batch of")
    assert "'dev_3' " in last


def test_embedding_names_the_utterances_and_goes_on_behind_its_shards(
    clustered_run: Path,
    tiny_whisper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), run.stage_dir("corpus"))
    flags = ["--run-dir", str(run.path), "--whisper-model", str(tiny_whisper), "--num-workers", "0"]
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(embedding_module, "pool", ask_for_too_much)
        with pytest.raises(SystemExit) as ended:
            embed([*flags, "--batch-size", "4"])
    line = only_line(ended.value.code, _without_warnings(capsys.readouterr().err))
    assert "out of memory at a batch of 4 utterances" in line
    assert "lower --batch-size or --max-seconds, or take --precision bf16-mixed" in line
    embed([*flags, "--batch-size", "2"])
    assert len(EmbeddingStore.load(run.embedding_dir(str(tiny_whisper))).ids) == 36


def test_evaluation_names_the_utterances_and_is_repeated_with_smaller_batches(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    flags = ["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu"]
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "decode_as", ask_for_too_much)
        with pytest.raises(SystemExit) as ended:
            evaluate(flags)
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out of memory at a batch of 6 utterances" in last
    assert "'test_0' " in last
    assert "lower --batch-size of `moe-lightning evaluate`" in last
    evaluate([*flags, "--batch-size", "1"])
    assert run.results_file.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError("Unable to allocate 3 GiB for an array"),
    ],
)
def test_every_way_to_say_it_is_understood(error: Exception) -> None:
    batch = GateBatch(torch.zeros(3, 2), torch.zeros(3, 2))
    with refuses("training.out-of-memory", "a batch of 3 utterances' embeddings"), explained(batch, "buy more"):
        raise error


def test_a_reader_that_was_killed_is_explained_too() -> None:
    with refuses("training.out-of-memory", "num_workers"), explained(None, ""):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")


def test_another_error_stays_what_it_is() -> None:
    for error in (RuntimeError("shapes differ"), ValueError("out of memory of what was said")):
        with pytest.raises(type(error), match=str(error)), explained(None, ""):
            raise error


def test_before_the_first_batch_it_is_the_model_that_does_not_fit() -> None:
    assert described(None) == "the model itself, before the first batch"


def _without_warnings(stderr: str) -> str:
    """Lightning's notes and progress bars left out."""
    return "\n".join(line for line in stderr.splitlines() if line.startswith("error: "))
