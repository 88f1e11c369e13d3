import numpy as np
import pytest

from moe_lightning.clustering.memberships import (
    calibrate_temperature,
    cosines,
    normalised_entropy,
    place_noise,
    softmax,
)
from moe_lightning.settings.clustering import NOISE_POLICIES

UNIFORM_4 = np.full((1, 4), 0.25)


def test_the_entropy_of_one_hot_rows_is_0_and_of_uniform_rows_1():
    assert normalised_entropy(np.eye(4)) == 0
    assert normalised_entropy(UNIFORM_4) == pytest.approx(1)
    assert normalised_entropy(np.ones((3, 1))) == 0


@pytest.mark.parametrize("target", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("num_experts", [2, 8, 30])
def test_a_calibrated_temperature_meets_the_target_entropy(target, num_experts):
    cosines_NE = np.random.default_rng(0).uniform(-1, 1, size=(200, num_experts))
    calibration = calibrate_temperature(cosines_NE, target)
    assert normalised_entropy(softmax(cosines_NE, calibration.temperature)) == pytest.approx(target, abs=1e-3)
    assert calibration.entropy == pytest.approx(target, abs=1e-3)


def test_temperature_1_is_the_plain_softmax_of_the_cosines():
    cosines_NE = np.random.default_rng(0).uniform(-1, 1, size=(5, 3))
    expected_NE = np.exp(cosines_NE) / np.exp(cosines_NE).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(cosines_NE, 1.0), expected_NE)


def test_a_point_at_the_origin_is_as_near_to_all_centroids():
    assert (cosines(np.zeros((1, 3)), np.eye(3)) == 0).all()


@pytest.mark.parametrize("noise", NOISE_POLICIES)
def test_every_noise_policy_gives_distributions(noise):
    memberships_NE = np.array([[0.2, 0.1], [0.0, 0.0], [1.0, 0.0]])
    fallback_NE = np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]])
    probs_NE = place_noise(memberships_NE, fallback_NE, noise, temperature=1.0)
    np.testing.assert_allclose(probs_NE.sum(axis=1), 1)
    np.testing.assert_allclose(probs_NE[2, :2], [1, 0], atol=1e-6)


def test_noise_is_dropped_handed_to_the_nearest_spread_or_kept():
    memberships_NE = np.array([[0.2, 0.1], [0.0, 0.0]])
    fallback_NE = np.array([[0.8, 0.2], [0.9, 0.1]])
    dropped, nearest, uniform, kept = (
        place_noise(memberships_NE, fallback_NE, noise, temperature=1.0) for noise in NOISE_POLICIES
    )
    np.testing.assert_allclose(dropped, [[2 / 3, 1 / 3], [0.9, 0.1]])
    np.testing.assert_allclose(nearest, [[0.2 + 0.7 * 0.8, 0.1 + 0.7 * 0.2], [0.9, 0.1]])
    np.testing.assert_allclose(uniform, [[0.2 + 0.35, 0.1 + 0.35], [0.5, 0.5]])
    np.testing.assert_allclose(kept, [[0.2, 0.1, 0.7], [0, 0, 1]], atol=1e-9)
