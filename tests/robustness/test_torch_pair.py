"""A torchaudio that does not load is one line that names both versions and the command that mends it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from moe_lightning.system.torch_pair import LOCKED, mending_command
from tests.refusals import ROOT, only_line

BROKEN = """
from pathlib import Path

import torch

torch.ops.load_library(Path(__file__).with_name("libtorchaudio.so"))
"""
"""As torchaudio loads its library; this one is no library."""


@pytest.fixture(scope="module")
def broken_torchaudio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with a torchaudio 2.11.99 whose import ends in torch's OSError."""
    folder = tmp_path_factory.mktemp("broken")
    package, about = folder / "torchaudio", folder / "torchaudio-2.11.99.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN)
    (package / "libtorchaudio.so").write_bytes(b"no library")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torchaudio\nVersion: 2.11.99\n")
    return folder


def run_with(folder: Path, words: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=ROOT, env=environment)


def assert_named(line: str) -> None:
    assert "torchaudio 2.11.99" in line
    assert f"torch {version('torch')}" in line
    assert "pip install " in line
    assert "libtorchaudio.so" in line, "the reason is kept"


def test_it_does_not_load_as_the_real_one_does_not(broken_torchaudio: Path) -> None:
    done = run_with(broken_torchaudio, [sys.executable, "-c", "import torchaudio"])
    assert "OSError: Could not load this library" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "gating fit --config configs/gating.yaml",
        "experts fit --config configs/experts.yaml",
        "experts drop 1 --output-dir nowhere --run-dir nowhere",
        "moe fit --config configs/moe.yaml",
        "transcribe README.md --run-dir nowhere",
    ],
)
def test_a_command_names_a_torchaudio_that_does_not_load(command: str, broken_torchaudio: Path) -> None:
    done = run_with(broken_torchaudio, [sys.executable, "-m", "moe_lightning", *command.split()])
    assert_named(only_line(done.returncode, done.stderr))


def test_a_module_that_is_a_command_names_it(broken_torchaudio: Path) -> None:
    module = "recipes.nano.recordings"
    done = run_with(broken_torchaudio, [sys.executable, "-m", module, "--help"])
    assert_named(only_line(done.returncode, done.stderr))


def test_the_pipeline_stops_at_the_first_stage_that_needs_it(
    broken_torchaudio: Path, tiny_corpus: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "moe_lightning", "pipeline", "--dataset-root", tiny_corpus, "--accelerator", "cpu"]
    words += ["--whisper-model", tiny_whisper, "--run-dir", tmp_path / "run", "--num-workers", "0"]
    done = run_with(broken_torchaudio, words)
    assert done.returncode == 2
    assert_named(only_line(2, "".join(line for line in done.stdout.splitlines(True) if line.startswith("error: "))))
    assert "Traceback" not in done.stdout + done.stderr


def test_its_traceback_is_kept_for_those_who_ask(broken_torchaudio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_LIGHTNING_TRACEBACK", "1")
    done = run_with(broken_torchaudio, [sys.executable, "-m", "moe_lightning", "gating", "fit"])
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("torch", "torchaudio", "command"),
    [
        ("2.11.0", "2.11.1", "pip install torchaudio==2.11.0"),
        ("2.15.0", "2.11.0", "pip install torchaudio==2.11.1"),
        ("2.12.1", "2.11.1", f"pip install {LOCKED}"),
        ("2.11.0", "2.11.0", f"pip install --force-reinstall {LOCKED}"),
        ("2.13.0+cpu", "2.11.0", f"pip install --force-reinstall {LOCKED}"),
    ],
    ids=["too new", "too old", "a torch that was never run", "damaged", "torch without CUDA"],
)
def test_the_command_leaves_torch_alone_where_a_torchaudio_is_known_for_it(
    torch: str, torchaudio: str, command: str
) -> None:
    assert mending_command(torch, torchaudio) == command
