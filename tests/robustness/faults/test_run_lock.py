"""Two processes never work on one run, and a killed one is no obstacle."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moe_lightning.run.folder import RunDir
from moe_lightning.system import locks as run_lock
from moe_lightning.system.locks import RUN_LOCK, STAGE_LOCK, pipeline_lock, stage_lock
from moe_lightning.system.signals import name_as_parent
from tests.refusals import Refusals, refuses
from tests.robustness.faults.processes import ends_within

HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from moe_lightning.system.locks import pipeline_lock, stage_lock
from moe_lightning.system.signals import end_with_parent, name_as_parent
end_with_parent()
kinds, folder = sys.argv[1].split(), sys.argv[2]
with {"pipeline": pipeline_lock, "stage": stage_lock}[kinds[0]](Path(folder)):
    print(os.getpid(), flush=True)
    if kinds[1:]:
        name_as_parent(os.environ)
        subprocess.run([sys.executable, "-c", sys.orig_argv[2], " ".join(kinds[1:]), folder])
    time.sleep(60)
"""


@contextmanager
def held_by(kinds: str, folder: Path) -> Iterator[list[int]]:
    """Processes that hold locks, each started by the one before, until the first is killed; gives their ids."""
    first = subprocess.Popen([sys.executable, "-c", HOLD, kinds, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        yield [int(first.stdout.readline()) for _ in kinds.split()]
    finally:
        first.kill()
        first.wait()
        assert first.stdout is not None
        first.stdout.read()  # until its children, who have the pipe too, are gone


@pytest.mark.parametrize("holder", ["pipeline", "stage"])
def test_a_second_pipeline_is_refused_by_process_and_host(
    holder: str, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run"]
    with held_by(holder, tmp_path / "run") as (pid,):
        line = Refusals(capsys)("run.pipeline", *flags)
    assert f"{tmp_path / 'run'} is being written by another run (process {pid} on {os.uname().nodename} " in line
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / RUN_LOCK] if holder == "pipeline" else True


def test_a_stage_by_hand_is_refused_while_a_pipeline_works(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run"]
    with held_by("pipeline", tmp_path / "run") as (pid,):
        assert f"process {pid} on" in Refusals(capsys)("corpus.__main__", *flags)
    assert not RunDir(tmp_path / "run").record_file("corpus").exists()


def test_the_stages_of_a_pipeline_take_part_in_its_lock_and_end_with_it(tmp_path: Path) -> None:
    with held_by("pipeline stage", tmp_path) as pids:
        assert len(set(pids)) == 2
        assert (tmp_path / STAGE_LOCK).exists()
        with refuses("folder.busy") as refused, stage_lock(tmp_path):
            pass
        assert f"process {pids[0]} on" in str(refused.value)
    assert ends_within(pids[1])


def test_the_lock_of_a_killed_run_is_free_at_once(tmp_path: Path) -> None:
    with held_by("stage", tmp_path):
        pass
    assert (tmp_path / RUN_LOCK).exists()
    with pipeline_lock(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / RUN_LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_outlives_its_pipeline_is_not_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "PATIENCE", 0.2)
    with held_by("stage", tmp_path) as (pid,):
        (tmp_path / RUN_LOCK).unlink()  # as if its pipeline had held it, and was killed
        with refuses("folder.busy") as refused, pipeline_lock(tmp_path):
            pass
        assert f"process {pid} on" in str(refused.value)
    with pipeline_lock(tmp_path):
        pass


def test_a_process_that_holds_a_run_may_ask_for_it_again(tmp_path: Path) -> None:
    with stage_lock(tmp_path):
        with stage_lock(tmp_path):
            pass
        assert (tmp_path / RUN_LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_jobs_that_train_single_experts_work_side_by_side(tmp_path: Path) -> None:
    with held_by("stage", RunDir(tmp_path, 0).lock_dir), stage_lock(RunDir(tmp_path, 1).lock_dir):
        pass


def test_a_process_whose_parent_is_gone_ends_before_it_begins() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    environment = {**os.environ}
    name_as_parent(environment)
    environment["MOE_LIGHTNING_PARENT"] = str(ended.pid)
    script = "from moe_lightning.system.signals import end_with_parent; end_with_parent(); print('went on')"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + 9, "")
