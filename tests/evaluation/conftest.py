"""A run that was evaluated, for several files of tests."""

import shutil
from pathlib import Path

import pytest

from moe_lightning.evaluation.__main__ import main
from moe_lightning.run_dir import RunDir


@pytest.fixture(scope="session")
def evaluated_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Copy it before writing to it."""
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("evaluated") / "run")))
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu"])
    return run
