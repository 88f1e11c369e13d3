"""The functions of benchmarks/embedding.py on a tiny model: what is measured is the same embeddings."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from moe_lightning.data.shards import finished_shards
from tests.benchmark_files import load_benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("embedding")


def test_every_window_has_its_speed_and_its_share_of_the_limit(
    benchmark: ModuleType, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = benchmark.read_utterances(tiny_corpus, 20)
    assert len(utterances) == 20
    model = str(benchmark.random_folder(tmp_path / "model", "tiny"))
    bench = benchmark.Bench(model, utterances, torch.device("cpu"), tmp_path, [30.0, 10.0, 0.0])
    figures = bench.run(benchmark.Plan(num_rounds=1, num_single=2, num_batched=4, num_ours=8))
    speeds = figures["audio_seconds_per_second"]
    assert list(figures["ours"]) == ["30", "10", "real"]
    real_frames = np.ceil(50 * np.array([utterance.duration for utterance in bench.utterances])).mean()
    for window, frames in (("30", 1500), ("10", 500), ("real", real_frames)):
        found = figures["ours"][window]
        assert found["ratio_vs_single"] == pytest.approx(speeds[window] / speeds["single"])
        assert found["ratio_vs_batched"] == pytest.approx(speeds[window] / speeds["batched"])
        limit = max(speeds["single"], speeds["batched"]) * 1500 / frames
        assert found["share_of_limit"] == pytest.approx(speeds[window] / limit)
    json.dumps(figures)
    benchmark.print_table({**figures, "model": "tiny", "device": "CPU", "threads": 1})
    assert "(c) ours, real" in capsys.readouterr().out


@torch.inference_mode()
def test_the_usual_ways_give_transformers_mean_over_the_window(
    benchmark: ModuleType, tiny_corpus: Path, tmp_path: Path
) -> None:
    utterances = benchmark.read_utterances(tiny_corpus, 6)
    model = str(benchmark.random_folder(tmp_path / "model", "tiny"))
    bench = benchmark.Bench(model, utterances, torch.device("cpu"), tmp_path)
    one_by_one, together = (bench.transformers(size)(utterances) for size in (1, 4))
    assert one_by_one.shape == (6, 32)
    np.testing.assert_allclose(one_by_one, together, atol=1e-5)
    bench.ours(utterances, window=30.0)
    assert sorted(finished_shards(tmp_path)[0].ids) == sorted(utterance.id for utterance in utterances)
