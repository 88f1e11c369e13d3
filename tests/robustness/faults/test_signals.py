"""A signal ends a command in one line, and the same command goes on as if it had not come."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.run.folder import RunDir
from moe_lightning.system.locks import STAGE_LOCK
from tests.places import ROOT
from tests.robustness.faults.processes import ends_within
from tests.stage_runs import callback, fit

SHORT = ["--trainer.max_epochs", "2", "--data.batch_size", "4", "--trainer.accumulate_grad_batches", "2"]
COMMAND = [sys.executable, "-m", "moe_lightning.experts", "fit", "--config", "configs/experts.yaml"]


def train(run: RunDir, model: Path, *flags: str) -> None:
    fit("experts", run.path, model, *SHORT, *callback("RecordPlaces", file=run.path / "places"), *flags)


def stop(run: RunDir, model: Path, *flags: str, number: signal.Signals, hook: str, num_calls: int) -> object:
    """Train until the run's own process sends itself a signal; gives the exit code."""
    sender = callback("SignalItself", number=int(number), hook=hook, num_calls=num_calls)
    with pytest.raises(SystemExit) as ended:
        train(run, model, *flags, *sender)
    return ended.value.code


def places(run: RunDir) -> list[str]:
    return (run.path / "places").read_text().splitlines()


@pytest.fixture(scope="module")
def whole(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose experts were trained without a stop: two epochs of six batches, in three steps each."""
    run = RunDir(tmp_path_factory.mktemp("whole") / "run")
    shutil.copytree(clustered_run, run.path)
    train(run, tiny_whisper)
    return run


@pytest.fixture
def run(clustered_run: Path, tmp_path: Path) -> RunDir:
    shutil.copytree(clustered_run, tmp_path / "run")
    return RunDir(tmp_path / "run")


def assert_same(found: RunDir, expected: RunDir) -> None:
    assert places(found) == places(expected), "no batch is repeated, none left out"
    pairs = zip(*(load_file(one.pretrained_experts_file).values() for one in (found, expected)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    scores = [torch.load(one.checkpoint_dir("experts") / "last.ckpt") for one in (found, expected)]
    assert scores[0]["exact_resume"] == scores[1]["exact_resume"]


@pytest.mark.parametrize("num_calls", [3, 8])
def test_sigterm_ends_a_training_behind_its_step_and_nothing_is_done_twice(
    whole: RunDir, run: RunDir, tiny_whisper: Path, num_calls: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it comes between the batches of one step."""
    code = stop(run, tiny_whisper, number=signal.SIGTERM, hook="on_train_batch_start", num_calls=num_calls)
    assert code == 143
    printed = capsys.readouterr()
    assert f"the training stopped at step {(num_calls + 1) // 2}; the same command goes on from there" in printed.out
    assert printed.err.splitlines()[-1] == "stopped by SIGTERM"
    assert len(places(run)) == num_calls + num_calls % 2
    train(run, tiny_whisper)
    assert_same(run, whole)


@pytest.mark.parametrize(("hook", "num_calls"), [("on_validation_batch_start", 1), ("on_train_epoch_end", 2)])
def test_sigint_in_a_validation_or_at_an_epochs_end_repeats_no_training(
    whole: RunDir, run: RunDir, tiny_whisper: Path, hook: str, num_calls: int
) -> None:
    assert stop(run, tiny_whisper, number=signal.SIGINT, hook=hook, num_calls=num_calls) == 130
    train(run, tiny_whisper)
    assert_same(run, whole)


def command(run: RunDir, model: Path) -> list[str]:
    return [*COMMAND, "--run_dir", str(run.path), "--model.whisper_model", str(model), "--ckpt_path", "last"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_still_imports_ends_without_a_traceback(
    run: RunDir, tiny_whisper: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(command(run, tiny_whisper), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    time.sleep(0.7)
    process.send_signal(number)
    assert "Traceback" not in process.communicate()[1]
    assert process.returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_that_catches_every_exception_does_not_swallow_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As numpy and accelerate do: behind it they are half imported, and fail with another error."""
    swallow = f"import os\ntry:\n    os.kill(os.getpid(), {int(number)})\nexcept BaseException:\n    pass\n"
    (tmp_path / "swallow.py").write_text(swallow)
    imports = "from moe_lightning.system.signals import STOP\nwith STOP.listening():\n    import swallow\n"
    code = f"{imports}    print('went on')"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", f"stopped by {number.name}\n")


@pytest.fixture
def pipeline(clustered_run: Path, tiny_corpus: Path, tiny_whisper: Path, tmp_path: Path) -> "subprocess.Popen[str]":
    """A pipeline whose embedding has just begun."""
    words = [sys.executable, "-m", "moe_lightning", "pipeline", "--dataset-root", tiny_corpus, "--accelerator", "cpu"]
    words += ["--whisper-model", tiny_whisper, "--run-dir", tmp_path / "run", "--num-workers", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*map(str, words)], cwd=ROOT, env=environment, text=True, **streams)  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    lock = tmp_path / "run" / STAGE_LOCK
    begun = RunDir(tmp_path / "run").record_file("embedding").with_name("stage.json.begun")
    while not (lock.exists() and begun.exists()) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def stage_of(run: Path) -> int:
    return int((run / STAGE_LOCK).read_text().partition('"pid": ')[2].partition(",")[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_pipeline_leaves_no_stage_behind(
    pipeline: "subprocess.Popen[str]", tmp_path: Path, number: signal.Signals
) -> None:
    stage = stage_of(tmp_path / "run")
    assert stage != pipeline.pid
    pipeline.send_signal(number)
    output, errors = pipeline.communicate(timeout=60)
    assert ends_within(stage)
    if number != signal.SIGKILL:
        assert pipeline.returncode == 128 + number
        assert f"the stage embedding stopped (code {128 + number}); the same command goes on from here" in output
        assert "Traceback" not in output + errors
