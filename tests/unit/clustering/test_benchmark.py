"""The functions of benchmarks/clustering.py on little data."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.benchmark_files import load_benchmark

FIGURES = (
    *("spectral_speedup_20k", "spectral_ari_20k", "spectral_1m_seconds", "spectral_1m_peak_gb"),
    *("hdbscan_100k_seconds", "hdbscan_10k_ari"),
)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("clustering")


def test_ours_and_scikit_learns_partition_are_compared(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures: dict = {"growth": []}
    benchmark.spectral_beside_scikit_learn(figures, (400,))
    benchmark.hdbscan_beside_its_sample(figures, 400)
    assert "agreement 1.000" in capsys.readouterr().out
    names = [one["name"] for one in figures["growth"]]
    assert names == ["spectral", "scikit-learn spectral", "HDBSCAN, exact", "HDBSCAN of a tenth"]
    benchmark.plot(figures["growth"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert [benchmark.in_full(figures)[name] for name in FIGURES] == [None] * 6


def test_the_groups_are_elongated_and_apart(benchmark: ModuleType) -> None:
    points_ND, groups_N = benchmark.elongated_gaussians(4000, distance=3.0)
    assert (points_ND.shape, points_ND.dtype) == ((4000, 50), np.float32)
    own_ND = points_ND[groups_N == 0] - points_ND[groups_N == 0].mean(axis=0)
    deviations_D = np.sqrt(np.linalg.eigvalsh(np.cov(own_ND.T)))
    assert deviations_D[-1] / deviations_D[0] > 6
