import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_lightning.data.batches import AudioDataset, BatchPlan, pad_waveforms, padding_share
from moe_lightning.data.utterance import Utterance
from tests.corpora import write_audio
from tests.refusals import refuses

durations = st.lists(st.floats(0.1, 30.0), min_size=8, max_size=120)


@given(durations, st.integers(1, 9), st.integers(0, 3), st.integers(1, 8))
def test_every_utterance_comes_once_an_epoch_and_every_rank_has_as_many_batches(durations_N, size, epoch, num_ranks):
    plan = BatchPlan(durations_N, size, seed=1)
    ranks = [plan.epoch(epoch, rank, num_ranks) for rank in range(num_ranks)]
    assert len({len(batches) for batches in ranks}) == 1
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(durations_N)))
    assert all(1 <= len(batch) <= max(size, 2) for batches in ranks for batch in batches)


@given(durations, st.floats(1.0, 90.0), st.floats(5.0, 100.0))
def test_no_batch_costs_more_than_its_cap_but_one_utterance_alone(durations_N, max_seconds, quadratic_seconds):
    plan = BatchPlan(durations_N, 256, 1, max_seconds, quadratic_seconds)
    batches = plan.epoch(0)
    assert sorted(row for batch in batches for row in batch) == list(range(len(durations_N)))
    for batch in batches:
        longest = max(durations_N[row] for row in batch)
        cost = len(batch) * (longest + longest**2 / quadratic_seconds)
        assert cost == pytest.approx(plan.cost(batch))
        assert len(batch) == 1 or cost <= max_seconds * (1 + 1e-9)


def test_batches_by_seconds_hold_more_short_utterances_than_long_ones():
    plan = BatchPlan([1.0] * 100 + [10.0] * 100, 256, 1, max_seconds=60, quadratic_seconds=float("inf"))
    sizes: dict[float, int] = {}
    for batch in plan.epoch(0):
        longest = plan.durations_N[batch].max()
        sizes[longest] = max(len(batch), sizes.get(longest, 0))
    assert sizes[10.0] == 6
    assert sizes[1.0] >= 40


def test_the_costliest_step_of_training_comes_first():
    durations_N = np.random.default_rng(0).uniform(0.5, 20, 1000)
    plan = BatchPlan(durations_N, 64, 1, max_seconds=100)
    for num_ranks in (1, 2):
        steps = list(zip(*(plan.epoch(0, rank, num_ranks) for rank in range(num_ranks)), strict=True))
        costs = [max(plan.cost(batch) for batch in step) for step in steps]
        assert costs[0] == max(costs)


def test_a_million_utterances_are_planned_in_seconds():
    durations_N = np.random.default_rng(0).gamma(3.0, 2.5, 1_000_000).clip(0.3, 30)
    started = time.process_time()
    batches = BatchPlan(durations_N, 256, 1, max_seconds=400).epoch(0, 0, 2)
    assert time.process_time() - started < 20
    assert padding_share(durations_N, batches) < 0.05


def test_an_epoch_is_a_pure_function_of_seed_and_number():
    durations_N = np.random.default_rng(0).uniform(0.5, 20, 300)
    plan = BatchPlan(durations_N, 8, seed=7)
    assert plan.epoch(3) == BatchPlan(durations_N, 8, seed=7).epoch(3)
    assert plan.epoch(3) != plan.epoch(4)
    assert plan.epoch(3) != BatchPlan(durations_N, 8, seed=8).epoch(3)
    assert {frozenset(batch) for batch in plan.epoch(3)} != {frozenset(batch) for batch in plan.epoch(4)}


def test_what_remains_is_the_tail_of_the_epoch():
    plan = BatchPlan(np.linspace(1, 5, 50), 4, seed=7)
    for num_ranks in (1, 2):
        for rank in range(num_ranks):
            whole = plan.epoch(2, rank, num_ranks)
            assert whole[:3] + plan.remaining(2, 3, rank, num_ranks) == whole


def test_ranks_work_on_batches_of_neighbouring_lengths():
    durations_N = np.random.default_rng(0).uniform(0.5, 20, 1000)
    ranks = [BatchPlan(durations_N, 8, seed=1).epoch(0, rank, 2) for rank in range(2)]
    gaps = [abs(durations_N[a].max() - durations_N[b].max()) for a, b in zip(*ranks, strict=True)]
    assert np.median(gaps) < 0.5


def test_batches_of_recorded_speech_are_hardly_padded(real_corpus):
    durations_N = [json.loads(line)["duration"] for line in (real_corpus / "train.jsonl").open(encoding="utf-8")]
    for plan in (BatchPlan(durations_N, 4, 42), BatchPlan(durations_N, 16, 42), BatchPlan(durations_N, 256, 42, 120)):
        assert padding_share(durations_N, plan.epoch(1)) < 0.05


def test_impossible_plans_are_refused():
    with refuses("corpus.empty"):
        BatchPlan([], 4, seed=1)
    with refuses("setting.range", "batch_size=0"):
        BatchPlan([1.0], 0, seed=1)
    with refuses("setting.range", "max_seconds=0"):
        BatchPlan([1.0], 1, seed=1, max_seconds=0)
    with refuses("setting.range", "quadratic_seconds=0"):
        BatchPlan([1.0], 1, seed=1, max_seconds=1, quadratic_seconds=0)
    with refuses("corpus.few-utterances", 1):
        BatchPlan([1.0], 4, seed=1).epoch(0, 0, 2)


def test_the_padding_share_counts_what_is_not_speech():
    assert padding_share([1.0, 3.0, 2.0], [[0, 1], [2]]) == pytest.approx(2 / 8)


def test_a_dataset_reads_audio_when_it_is_asked_for(tmp_path):
    utterances = [
        Utterance("a", write_audio(tmp_path / "a.wav", 0.5), 0.0, 0.5, "hello", "ann", {"language": "en"}),
        Utterance("b", tmp_path / "none.wav", 0.0, 0.5, "hello", "ann"),
    ]
    dataset = AudioDataset(utterances)
    item = dataset[0]
    assert (len(dataset), item.row, item.id, item.text, item.language) == (2, 0, "a", "hello", "en")
    assert item.waveform_L.shape == (8000,)
    with refuses("file.missing", "none.wav"):
        dataset[1]


def test_padding_adds_zeros_after_the_ends():
    waveforms_BL, num_samples_B = pad_waveforms([torch.ones(3), torch.ones(5)])
    assert waveforms_BL.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert num_samples_B.tolist() == [3, 5]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_batches_by_group_are_those_that_each_group_has_alone(num_ranks: int) -> None:
    durations_N = np.random.default_rng(0).uniform(1, 9, 60)
    groups_N = np.arange(60) % 7 // 3
    plan = BatchPlan(durations_N, 4, seed=1, max_seconds=30.0, groups_N=groups_N)
    for rank in range(num_ranks):
        batches = plan.epoch(2, rank, num_ranks)
        for group in range(3):
            rows = np.flatnonzero(groups_N == group)
            alone = BatchPlan(durations_N[rows], 4, seed=1, max_seconds=30.0).epoch(2, rank, num_ranks)
            found = [batch for batch in batches if groups_N[batch[0]] == group]
            assert found == [rows[batch].tolist() for batch in alone]
        assert all(len(set(groups_N[batch])) == 1 for batch in batches)
        assert [groups_N[batch[0]] for batch in batches] == [
            groups_N[batch[0]] for batch in plan.epoch(2, num_ranks - 1, num_ranks)
        ], "ranks work on the same group at the same time"
