"""Responsibilities of the experts, and their balance over a corpus."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moe_lightning.moe.responsibilities import balanced, judge, responsibilities, wanted_shares
from tests.refusals import refuses

UNIFORM_4 = np.full(4, 0.25)


def some_distributions(num_utterances: int, num_experts: int, sharpness: float, seed: int = 0) -> np.ndarray:
    logits_NE = np.random.default_rng(seed).normal(size=(num_utterances, num_experts)) * sharpness
    logits_NE[:, 0] += 2 * sharpness
    probs_NE = np.exp(logits_NE - logits_NE.max(axis=1, keepdims=True))
    return probs_NE / probs_NE.sum(axis=1, keepdims=True)


def test_a_responsibility_is_the_prior_times_the_likelihood() -> None:
    priors_NE = np.array([[0.5, 0.5], [0.9, 0.1]])
    losses_NE = np.array([[1.0, 1.2], [1.2, 1.0]])
    weights_NE = priors_NE * np.exp(-losses_NE / 0.1)
    expected_NE = weights_NE / weights_NE.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(responsibilities(priors_NE, losses_NE, 0.1), expected_NE, rtol=1e-12)


def test_a_high_temperature_leaves_the_prior_and_a_low_one_the_best_expert() -> None:
    priors_NE = some_distributions(20, 4, 1.0)
    losses_NE = np.random.default_rng(1).uniform(1, 2, size=(20, 4))
    np.testing.assert_allclose(responsibilities(priors_NE, losses_NE, 1e9), priors_NE, rtol=1e-6)
    coldest_NE = responsibilities(priors_NE, losses_NE, 1e-6)
    assert (coldest_NE.argmax(axis=1) == losses_NE.argmin(axis=1)).all()
    assert np.isfinite(coldest_NE).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_an_utterance_with_a_loss_that_is_not_finite_keeps_its_prior(odd: float) -> None:
    priors_NE = some_distributions(3, 4, 1.0)
    losses_NE = np.ones((3, 4)) * np.array([1.0, 2.0, 3.0, 4.0])
    losses_NE[1, 2] = odd
    found_NE = responsibilities(priors_NE, losses_NE, 0.5)
    np.testing.assert_allclose(found_NE[1], priors_NE[1])
    assert not np.allclose(found_NE[0], priors_NE[0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with refuses("setting.range"):
        responsibilities(np.ones((1, 1)), np.ones((1, 1)), temperature)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("num_utterances", [4, 9, 500])
def test_balanced_rows_sum_to_1_and_columns_to_their_share(num_utterances: int, sharpness: float) -> None:
    shares_E = np.array([0.1, 0.2, 0.3, 0.4])
    for wanted_E in (UNIFORM_4, shares_E):
        found_NE = balanced(some_distributions(num_utterances, 4, sharpness), wanted_E)
        np.testing.assert_allclose(found_NE.sum(axis=1), 1.0, atol=1e-12)
        np.testing.assert_allclose(found_NE.mean(axis=0), wanted_E, atol=2e-6)


@given(arrays(np.float64, (6, 3), elements=st.floats(0, 1, allow_subnormal=True)))
@settings(max_examples=50)
def test_any_rows_can_be_balanced(weights_NE: np.ndarray) -> None:
    probs_NE = (weights_NE + 1e-12) / (weights_NE + 1e-12).sum(axis=1, keepdims=True)
    found_NE = balanced(probs_NE, np.full(3, 1 / 3))
    np.testing.assert_allclose(found_NE.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(found_NE.mean(axis=0), 1 / 3, atol=2e-6)


def test_one_hot_rows_that_all_want_the_same_expert_are_shared_out() -> None:
    probs_NE = np.zeros((8, 4))
    probs_NE[:, 0] = 1
    np.testing.assert_allclose(balanced(probs_NE, UNIFORM_4), 0.25, atol=1e-6)


def test_balancing_what_is_balanced_changes_nothing() -> None:
    found_NE = balanced(some_distributions(100, 4, 3.0), UNIFORM_4)
    np.testing.assert_allclose(balanced(found_NE, UNIFORM_4), found_NE, atol=1e-5)


def test_balancing_keeps_the_order_of_utterances_and_the_odds_between_them() -> None:
    """The result is ``probs * scale_of_row * scale_of_column``: odds ratios stay."""
    probs_NE = some_distributions(50, 4, 1.0)
    found_NE = balanced(probs_NE, UNIFORM_4)

    def odds(rows_NE: np.ndarray) -> np.ndarray:
        return (rows_NE[:-1, 0] * rows_NE[1:, 1]) / (rows_NE[:-1, 1] * rows_NE[1:, 0])

    np.testing.assert_allclose(odds(found_NE), odds(probs_NE), rtol=1e-8)
    order_N = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(balanced(probs_NE[order_N], UNIFORM_4), found_NE[order_N], atol=1e-9)


@pytest.mark.parametrize("shares", [[0.5, 0.5, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]])
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with refuses("setting.range", "shares"):
        balanced(some_distributions(5, 4, 1.0), np.array(shares))


def test_the_wanted_shares_lie_between_the_found_ones_and_equal_ones() -> None:
    probs_NE = np.array([[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(wanted_shares(probs_NE, 0.0), [0.75, 0.25])
    np.testing.assert_allclose(wanted_shares(probs_NE, 1.0), [0.5, 0.5])
    np.testing.assert_allclose(wanted_shares(probs_NE, 0.5), [0.625, 0.375])
    assert (wanted_shares(np.array([[1.0, 0.0]]), 0.0) > 0).all()
    with refuses("setting.range", "balance=1.5"):
        wanted_shares(probs_NE, 1.5)


def test_the_regret_is_the_chosen_experts_loss_minus_the_best_ones() -> None:
    gates_NE = np.array([[0.8, 0.2], [0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
    losses_NE = np.array([[1.0, 3.0], [1.0, 2.0], [4.0, 1.0], [np.nan, 1.0]])
    found = judge(gates_NE, losses_NE)
    assert found.chosen_loss == pytest.approx((1 + 2 + 4) / 3)
    assert found.best_loss == pytest.approx(1.0)
    assert found.regret == pytest.approx((0 + 1 + 3) / 3)
    assert found.is_best == pytest.approx(1 / 3)
    with refuses("training.not-finite"):
        judge(gates_NE[3:], losses_NE[3:])
