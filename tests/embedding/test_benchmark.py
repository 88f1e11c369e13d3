"""The functions of benchmarks/embedding.py on a tiny model: what is measured is the same embeddings."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from moe_lightning.store.shards import finished_shards
from tests.benchmark_files import load_benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("embedding")


def test_the_three_ways_are_measured_on_the_same_mix_of_lengths(
    benchmark: ModuleType, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = benchmark.read_utterances(tiny_corpus, 20)
    assert len(utterances) == 20
    model = benchmark.random_whisper(tmp_path / "model", "tiny")
    bench = benchmark.Bench(model, utterances, torch.device("cpu"), tmp_path)
    figures = bench.run(benchmark.Plan(num_rounds=1, num_single=2, num_batched=4, num_ours=8))
    speeds = figures["audio_seconds_per_second"]
    assert figures["ratio_vs_single"] == pytest.approx(speeds["ours"] / speeds["single"])
    assert figures["ratio_vs_batched"] == pytest.approx(speeds["ours"] / speeds["batched"])
    faster = max(speeds["single"], speeds["batched"])
    real_frames = np.ceil(50 * np.array([utterance.duration for utterance in bench.spread(8)])).mean()
    assert figures["share_of_limit"] == pytest.approx(speeds["ours"] / (faster * 1500 / real_frames))
    assert figures["padding_share"]["single"] == pytest.approx(1 - real_frames / 1500)
    json.dumps(figures)
    benchmark.print_table({**figures, "shape": "tiny", "device": "CPU", "threads": 1})
    assert "of the arithmetic limit" in capsys.readouterr().out


@torch.inference_mode()
def test_the_usual_ways_give_transformers_mean_over_the_window(
    benchmark: ModuleType, tiny_corpus: Path, tmp_path: Path
) -> None:
    utterances = benchmark.read_utterances(tiny_corpus, 6)
    model = benchmark.random_whisper(tmp_path / "model", "tiny")
    bench = benchmark.Bench(model, utterances, torch.device("cpu"), tmp_path)
    one_by_one, together = (bench.transformers(size)(utterances) for size in (1, 4))
    assert one_by_one.shape == (6, 32)
    np.testing.assert_allclose(one_by_one, together, atol=1e-5)
    bench.ours(utterances)
    assert sorted(finished_shards(tmp_path)[0].ids) == sorted(utterance.id for utterance in utterances)
