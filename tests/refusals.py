"""How a command refuses: one line on stderr that begins with ``error:``, exit code 2, no traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import ANY

import pytest

from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from tests.places import ROOT


@contextmanager
def refuses(code: str, value: object = ANY) -> Iterator[pytest.ExceptionInfo[InputError]]:
    """Expect an InputError of this code and value; of a file, the end of its path is enough."""
    with pytest.raises(InputError) as refused:
        yield refused
    found = refused.value.value
    assert refused.value.code == code, refused.value
    if isinstance(found, Path) or (isinstance(found, str) and "/" in found):
        assert value is ANY or str(found).endswith(str(value))
    else:
        assert found == value


class Refusals:
    """Runs the ``main`` of a module in this process and gives the one line that it ends with."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self.capsys = capsys

    def __call__(self, module: str, *arguments: object) -> str:
        """The line, after checking that the command refused."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            import_module(f"moe_lightning.{module}").main([str(argument) for argument in arguments])
        return only_line(ended.value.code, self.capsys.readouterr().err)


def only_line(code: object, stderr: str) -> str:
    """The complaint, after checking that there is one, of one line, and nothing like a traceback."""
    assert code == 2, stderr
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Seed set to")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in stderr
    return lines[0]


def refused_process(*command: object) -> str:
    """The same of a real process, as it is typed."""
    words = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return only_line(done.returncode, done.stderr)


def fit_arguments(run: RunDir, stage: str, model: object, *flags: object) -> list[object]:
    """Arguments of a trained stage's command."""
    command = ["fit", "--config", ROOT / "configs" / f"{stage}.yaml", "--run_dir", run.path]
    command += [] if stage == "moe" else ["--model.whisper_model", model]  # moe reads it from the run
    command += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    return [*command, "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", *flags]
