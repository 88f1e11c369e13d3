"""The functions of benchmarks/soak.py: what is measured is this process, and growth is a slope after the warm-up."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmark_files import load_benchmark


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    return load_benchmark("soak")


def test_an_open_file_and_memory_in_use_are_seen(soak: ModuleType, tmp_path: Path) -> None:
    before = soak.measured()
    held = bytearray(b"x" * 64 * 2**20)
    with (tmp_path / "file").open("w"):
        after = soak.measured()
    assert after["open_files"] == before["open_files"] + 1
    assert after["resident_mib"] - before["resident_mib"] == pytest.approx(64, abs=8)
    assert len(held) == 64 * 2**20
    assert soak.measured()["open_files"] == before["open_files"]


def test_growth_is_the_slope_after_the_warm_up(soak: ModuleType) -> None:
    rows = [
        {"batches": count, "seconds": count / 10, "resident_mib": 500.0 + count / 100, "open_files": 30, "children": 2}
        for count in range(100, 10_001, 100)
    ]
    rows[0]["resident_mib"] = 5.0  # while models are loaded
    figures = soak.summary(rows)
    assert figures["resident_mib_per_1000_batches"] == pytest.approx(10)
    assert figures["open_files_per_1000_batches"] == pytest.approx(0, abs=1e-9)
    assert (figures["resident_mib_after_warm_up"], figures["resident_mib_at_the_end"]) == (521, 600)
    assert figures["batches"] == 10_000
