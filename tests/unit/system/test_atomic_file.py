"""A disk that refuses leaves the old file, whichever call meets it, and one line."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.models.weights import write_state, write_tensors
from moe_lightning.system.atomic_file import write_bytes, write_text
from moe_lightning.system.exits import exits_cleanly
from moe_lightning.system.json_files import write_json, write_json_list

LIMIT = 4096
TENSORS = {"a": torch.zeros(5000)}
IDS = tuple(f"utterance {number}" for number in range(1000))
WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda file: write_text(file, "x" * 10_000),
    "bytes": lambda file: write_bytes(file, b"x" * 10_000),
    "JSON": lambda file: write_json(file, list(range(5000))),
    "JSON list": lambda file: write_json_list(file, range(5000)),
    "state": lambda file: write_state(TENSORS, file),
    "tensors": lambda file: write_tensors(TENSORS, file),
    "soft labels": lambda file: SoftLabels(IDS, np.full((1000, 2), 0.5)).save(file),
}


@contextmanager
def small_files() -> Iterator[None]:
    """The system refuses to write more than `LIMIT` bytes to a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_refuses_leaves_the_old_file_and_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("as it was")

    @exits_cleanly
    def command() -> None:
        with small_files():
            WRITERS[kind](file)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert file.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [file], "nothing is left beside"
    WRITERS[kind](file)
    assert file.stat().st_size > LIMIT
