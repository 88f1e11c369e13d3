"""An embedding that is stopped: nothing finished is done again, nothing is lost, and no other run interferes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_lightning.data.batches import EmbeddedBatch
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.shards import finished_shards
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.embedding.writer import ShardSettings, StoreWriter
from moe_lightning.run.folder import RunDir
from moe_lightning.system.locks import LOCK_FILE, STALE_AFTER, LockWatch, locked
from tests.refusals import only_line, refuses
from tests.stages.embedding.conftest import embed_and_die

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from moe_lightning.system.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def lock_held_elsewhere(folder: Path) -> Iterator[int]:
    """Another process holds the folder's lock, until it is killed; gives its id."""
    other = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other.pid
    finally:
        other.kill()
        other.wait()


def resume(run: RunDir, model: Path, *flags: str) -> EmbeddingStore:
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0", *flags])
    return EmbeddingStore.load(run.embedding_dir(str(model)))


def refusal(run: RunDir, model: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        resume(run, model, *flags)
    return only_line(ended.value.code, capsys.readouterr().err)


def shards(run: RunDir, model: Path) -> dict[str, int]:
    """Shards that are there, with the time of their last change."""
    return {file.name: file.stat().st_mtime_ns for file in run.embedding_dir(str(model)).glob("embeddings_*.npy")}


def never_stopped(clustered_run: Path) -> EmbeddingStore:
    return EmbeddingStore.load(RunDir(clustered_run).embedding_dirs()[0])


def test_a_killed_embedding_goes_on_behind_its_finished_shards_with_other_batches(
    killed_run: RunDir, clustered_run: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shards(killed_run, tiny_whisper)
    assert len(before) == 2, "two shards of two batches are finished, the fifth batch is lost"
    store = resume(killed_run, tiny_whisper, "--batch-size", "5")
    assert "16 of 36 utterances were done before" in capsys.readouterr().out
    after = shards(killed_run, tiny_whisper)
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    assert store.ids == never_stopped(clustered_run).ids
    np.testing.assert_allclose(store.embeddings_ND, never_stopped(clustered_run).embeddings_ND, atol=1e-5)
    assert not list(killed_run.embedding_dir(str(tiny_whisper)).glob("*.partial"))
    assert not (killed_run.embedding_dir(str(tiny_whisper)) / LOCK_FILE).exists()


def test_a_killed_embedding_ends_with_the_same_bits_with_the_same_batches(
    killed_run: RunDir, clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    whole = RunDir(tmp_path / "whole")
    shutil.copytree(RunDir(clustered_run).stage_dir("corpus"), whole.stage_dir("corpus"))
    stores = [resume(run, tiny_whisper, "--batch-size", "4", "--shard-size", "8") for run in (whole, killed_run)]
    np.testing.assert_array_equal(stores[0].embeddings_ND, stores[1].embeddings_ND)


def test_a_terminated_embedding_keeps_all_that_it_has_done(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed_and_die(corpus_run, tiny_whisper, "SIGTERM", 5, "--batch-size", 4) == 128 + 15
    resume(corpus_run, tiny_whisper)
    assert "24 of 36 utterances were done before" in capsys.readouterr().out


def test_a_bit_that_flipped_while_an_embedding_was_stopped_is_embedded_again(
    killed_run: RunDir, clustered_run: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = killed_run.embedding_dir(str(tiny_whisper)) / "embeddings_00000.npy"
    contents = bytearray(shard.read_bytes())
    contents[-2] ^= 1
    shard.write_bytes(contents)
    store = resume(killed_run, tiny_whisper, "--batch-size", "4", "--shard-size", "8")
    printed = capsys.readouterr().out
    assert "embeddings_00000.npy was damaged; its utterances are embedded again" in printed
    assert "8 of 36 utterances were done before" in printed
    np.testing.assert_allclose(store.embeddings_ND, never_stopped(clustered_run).embeddings_ND, atol=1e-5)


def test_what_a_kill_left_half_written_is_cleared_away(corpus_run: RunDir, tiny_whisper: Path) -> None:
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    folder.mkdir(parents=True)
    (folder / "embeddings_00000.npy.partial").write_bytes(b"half")
    (folder / "embeddings_00003.npy").write_bytes(b"an array whose index was never written")
    assert len(resume(corpus_run, tiny_whisper).ids) == 36
    assert [file.name for file in sorted(folder.glob("embeddings_*"))] == [
        "embeddings_00000.json",
        "embeddings_00000.npy",
    ]


def test_a_store_that_somebody_else_made_is_refused_and_left_alone(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    folder.mkdir(parents=True)
    np.save(folder / "embeddings_00000.npy", np.zeros((1, 4), dtype=np.float32))
    (folder / "mapping.json").write_text(json.dumps([{"id": "a", "embedding_path": "embeddings_00000.npy"}]))
    assert "holds embeddings that this command did not write" in refusal(corpus_run, tiny_whisper, capsys)
    assert EmbeddingStore.load(folder).ids == ("a",)


@pytest.mark.parametrize("damage", ["cut off", "removed"])
def test_a_shard_that_was_lost_is_embedded_again_and_the_others_are_kept(
    corpus_run: RunDir, tiny_whisper: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = resume(corpus_run, tiny_whisper, "--batch-size", "6", "--shard-size", "12")
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    lost = folder / "embeddings_00001.npy"
    if damage == "cut off":
        lost.write_bytes(lost.read_bytes()[:-100])
    else:
        lost.unlink()
    with refuses("file.unreadable" if damage == "cut off" else "file.missing", "embeddings_00001.npy"):
        EmbeddingStore.load(folder)
    mended = resume(corpus_run, tiny_whisper, "--batch-size", "6", "--shard-size", "12")
    assert "24 of 36 utterances were done before" in capsys.readouterr().out
    np.testing.assert_allclose(mended.embeddings_ND, whole.embeddings_ND, atol=1e-5)
    assert corpus_run.record_file("embedding").exists()


@pytest.mark.parametrize(
    ("lost", "num_kept"),
    [(["mapping.json"], 36), (["embeddings_00001.npy", "embeddings_00001.json"], 24)],
)
def test_a_finished_store_that_lost_a_file_is_mended_by_the_same_command(
    corpus_run: RunDir, tiny_whisper: Path, lost: list[str], num_kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--batch-size", "6", "--shard-size", "12"]
    whole = resume(corpus_run, tiny_whisper, *flags)
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    for name in lost:
        (folder / name).unlink()
    with refuses("file.missing"):
        EmbeddingStore.load(folder)
    mended = resume(corpus_run, tiny_whisper, *flags)
    assert f"{num_kept} of 36 utterances were done before" in capsys.readouterr().out
    assert mended.ids == whole.ids
    np.testing.assert_allclose(mended.embeddings_ND, whole.embeddings_ND, atol=1e-5)


def test_asking_for_another_model_leaves_a_finished_store_finished(
    clustered_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(clustered_run, run.path)
    with pytest.raises(SystemExit):
        embed(["--run-dir", str(run.path), "--whisper-model", "nano", "--num-workers", "0"])
    assert "whisper_model was" in capsys.readouterr().err
    assert run.record_file("embedding").exists()


def test_a_folder_of_other_embeddings_is_refused_and_left_alone(
    killed_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_run.record_file("embedding").with_name("stage.json.begun").unlink()
    before = shards(killed_run, tiny_whisper)
    words = refusal(killed_run, tiny_whisper, capsys, "--pooling", "mean+std", "--store", "frames")
    assert "holds other embeddings: pooling was mean, now mean+std, kind was pooled, now frames" in words
    assert shards(killed_run, tiny_whisper) == before


def test_weights_that_changed_since_are_refused(
    killed_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_file = killed_run.embedding_dir(str(tiny_whisper)) / "store.json"
    info = json.loads(store_file.read_text())
    assert info["revision"].startswith("sha256:")
    store_file.write_text(json.dumps({**info, "revision": "sha256:of other weights"}))
    assert "model revision was sha256:of other weights" in refusal(killed_run, tiny_whisper, capsys)


def test_two_runs_do_not_write_to_one_folder_and_a_dead_ones_lock_is_no_obstacle(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    with lock_held_elsewhere(folder) as pid:
        words = refusal(corpus_run, tiny_whisper, capsys)
        assert f"is being written by another run (process {pid} on {os.uname().nodename}" in words
    assert (folder / LOCK_FILE).exists()
    assert len(resume(corpus_run, tiny_whisper).ids) == 36


def test_a_rank_that_outlives_its_run_writes_nothing_into_the_next_ones_folder(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, ShardSettings())
    embedded = EmbeddedBatch(torch.zeros(1, 4), torch.zeros(1, 2, 4), torch.tensor([2]))
    with lock_held_elsewhere(tmp_path):
        writer.watch = LockWatch(tmp_path)
        writer.add(["a"], embedded)
        writer.flush()
    writer.add(["b"], embedded)
    with lock_held_elsewhere(tmp_path):
        with refuses("folder.lost"):
            writer.flush()
        writer.flush()
    assert [shard.ids for shard in finished_shards(tmp_path)] == [["a"]]


def test_a_lock_of_another_machine_holds_while_it_is_renewed(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_FILE
    lock.write_text(json.dumps({"pid": 7, "host": "another", "since": "2026-01-01T00:00:00"}))
    with refuses("folder.busy", tmp_path) as refused, locked(tmp_path):
        pass
    assert f"remove {lock}" in str(refused.value)
    long_ago = lock.stat().st_mtime - STALE_AFTER - 60
    os.utime(lock, (long_ago, long_ago))
    with locked(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


def test_a_full_disk_is_one_line_and_what_was_finished_stays(
    corpus_run: RunDir, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus_run.embedding_dir(str(tiny_whisper))
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    frames = ["--store", "frames", "--batch-size", "2", "--shard-size", "2"]
    try:
        words = refusal(corpus_run, tiny_whisper, capsys, *frames)
        assert f"{folder}: a shard of 2 utterances cannot be written (No space left on device); make room" in words
        num_done = 2 * len(shards(corpus_run, tiny_whisper))
        assert num_done >= 2
        assert not list(folder.glob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        store = resume(corpus_run, tiny_whisper, *frames)
        assert f"{num_done} of 36 utterances were done before" in capsys.readouterr().out
        assert (len(store.ids), store.has_frames) == (36, True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
