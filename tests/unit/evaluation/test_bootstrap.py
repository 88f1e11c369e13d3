"""The bootstrap against drawing one by one, and against what statistics says of easy cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lightning.evaluation.bootstrap import Resampled, compare, interval, resample


def obvious_rates(errors_NS, lengths_N, units, num_resamples, seed):
    """The same draws, utterance by utterance."""
    names = sorted(set(units))
    rows_of = {name: [row for row, unit in enumerate(units) if unit == name] for name in names}
    drawn_RM = np.random.default_rng(seed).integers(len(names), size=(num_resamples, len(names)))
    rates = []
    for drawn in drawn_RM:
        rows = [row for unit in drawn for row in rows_of[names[unit]]]
        rates.append(errors_NS[rows].sum(axis=0) / lengths_N[rows].sum())
    return np.array(rates)


def counts(num: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    lengths_N = rng.integers(1, 10, num)
    return rng.integers(0, lengths_N[:, None] + 2, (num, 3)), lengths_N, [f"s{row % 5}" for row in range(num)]


def test_the_rates_are_those_of_drawing_speakers_one_by_one() -> None:
    errors_NS, lengths_N, units = counts(40)
    rates_RS = resample(errors_NS, lengths_N, units, 200, seed=3)
    assert rates_RS.shape == (200, 3)
    np.testing.assert_allclose(rates_RS, obvious_rates(errors_NS, lengths_N, units, 200, 3))


def test_drawing_in_parts_covers_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    errors_NS, lengths_N, units = counts(40)
    monkeypatch.setattr("moe_lightning.evaluation.bootstrap._MOST_DRAWN_AT_ONCE", 35)
    rates_RS = resample(errors_NS, lengths_N, units, 100, seed=3)
    assert len(rates_RS) == 100
    assert len(np.unique(rates_RS[:, 0])) > 50


@given(order=st.permutations(range(12)), seed=st.integers(0, 5))
@settings(max_examples=30)
def test_the_order_of_the_utterances_does_not_matter(order: list[int], seed: int) -> None:
    errors_NS, lengths_N, units = counts(12)
    straight = resample(errors_NS, lengths_N, units, 50, seed)
    shuffled = resample(errors_NS[order], lengths_N[order], [units[row] for row in order], 50, seed)
    assert np.array_equal(straight, shuffled)


def test_a_seed_repeats_its_draws_and_another_one_draws_others() -> None:
    errors_NS, lengths_N, units = counts(30)
    first = resample(errors_NS, lengths_N, units, 100, seed=1)
    assert np.array_equal(first, resample(errors_NS, lengths_N, units, 100, seed=1))
    assert not np.array_equal(first, resample(errors_NS, lengths_N, units, 100, seed=2))


def test_the_interval_of_many_equal_utterances_is_the_normal_one() -> None:
    """For N words, each wrong with probability p: p +- 1.96 sqrt(p (1 - p) / N)."""
    errors_N1 = (np.arange(400) % 4 == 0).astype(int)[:, None]
    rates_RS = resample(errors_N1, np.ones(400, int), [str(row) for row in range(400)], 20_000, seed=0)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert interval(rates_RS[:, 0]) == pytest.approx((0.25 - half, 0.25 + half), abs=0.004)


def test_speakers_that_differ_widen_the_interval_of_their_utterances() -> None:
    errors_N1 = np.repeat([0, 4], 50)[:, None]
    speakers = [f"s{row // 10}" for row in range(100)]
    over_speakers = resample(errors_N1, np.full(100, 4), speakers, 2000, seed=0)
    over_utterances = resample(errors_N1, np.full(100, 4), [str(row) for row in range(100)], 2000, seed=0)
    assert over_speakers.std() > 2 * over_utterances.std()


def resampled(errors_NS: np.ndarray, lengths_N: np.ndarray, units: list[str]) -> list[Resampled]:
    rates_RS = resample(errors_NS, lengths_N, units, 1000, seed=0)
    totals_S = errors_NS.sum(axis=0) / lengths_N.sum()
    return [Resampled(float(total), rates_R) for total, rates_R in zip(totals_S, rates_RS.T, strict=True)]


def test_a_system_that_is_better_for_every_speaker_is_better_in_every_draw() -> None:
    better, baseline = resampled(np.tile([1, 2], (20, 1)), np.full(20, 4), [str(row) for row in range(20)])
    found = compare(better, baseline)
    assert found.relative_improvement == 0.5
    assert found.interval == (0.5, 0.5)
    assert found.difference == -0.25
    assert found.probability_better == 1.0


def test_a_system_against_itself_is_better_in_half_of_the_draws() -> None:
    errors_NS, lengths_N, units = counts(30)
    one = resampled(errors_NS, lengths_N, units)[0]
    found = compare(one, one)
    assert found.probability_better == 0.5
    assert (found.relative_improvement, found.interval) == (0.0, (0.0, 0.0))
    assert "-" not in str(found)


def test_the_probabilities_of_both_directions_sum_to_1() -> None:
    one, other, _ = resampled(*counts(30))
    assert compare(one, other).probability_better + compare(other, one).probability_better == pytest.approx(1)


def test_against_a_baseline_without_errors_there_is_a_difference_and_no_relative_change() -> None:
    one, perfect = resampled(np.tile([1, 0], (20, 1)), np.full(20, 4), [str(row) for row in range(20)])
    found = compare(one, perfect)
    assert (found.relative_improvement, found.interval) == (None, None)
    assert (found.difference, found.probability_better) == (0.25, 0.0)


def test_pairing_sees_a_small_steady_lead_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    baseline_N = rng.integers(0, 10, 60)
    errors_NS = np.column_stack([np.maximum(baseline_N - 1, 0), baseline_N])
    better, baseline = resampled(errors_NS, np.full(60, 10), [f"s{row}" for row in range(60)])
    assert interval(better.rates_R)[1] > interval(baseline.rates_R)[0]
    assert compare(better, baseline).probability_better == 1.0
