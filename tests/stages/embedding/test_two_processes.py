"""Ranks that share an embedding which was killed before."""

from pathlib import Path

import numpy as np
import pytest

from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.run.folder import RunDir
from tests.robustness.test_multi_process import TWO_PROCESSES, run_command


@pytest.mark.parametrize("batch_size", [5, 64], ids=["several batches are left", "fewer batches than processes"])
def test_a_killed_store_is_finished_by_two_processes(
    killed_run: RunDir, clustered_run: Path, tiny_whisper: Path, batch_size: int
) -> None:
    flags = [part for name, value in TWO_PROCESSES.items() for part in (f"--{name}", value)]
    model = ["--run-dir", killed_run.path, "--whisper-model", tiny_whisper]
    size = ["--batch-size", batch_size, "--max-seconds", 1000]
    output = run_command("embedding", *model, "--num-workers", 0, *size, *flags)
    assert output.count("16 of 36 utterances were done before") == 1
    one, two = (EmbeddingStore.load(RunDir(path).embedding_dirs()[0]) for path in (clustered_run, killed_run.path))
    assert one.ids == two.ids
    np.testing.assert_allclose(two.embeddings_ND, one.embeddings_ND, atol=1e-5)
    assert len({entry.embedding_path for entry in two.entries}) == (4 if batch_size == 5 else 3)
