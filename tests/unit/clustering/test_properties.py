"""What holds of any embeddings, by hypothesis."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.fit import FittedClustering, fit_clusterer
from moe_lightning.clustering.kmeans import balanced_labels
from moe_lightning.clustering.memberships import calibrate_temperature, normalised_entropy, place_noise, softmax
from moe_lightning.clustering.partition import Partition
from moe_lightning.errors import InputError
from moe_lightning.settings.clustering import ALGORITHMS, NOISE_POLICIES, ClusteringSettings

ALGORITHMS_OF_POINTS = [name for name in ALGORITHMS if name != "label"]
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def embeddings(draw, max_rows: int = 40) -> np.ndarray:
    """Anything finite: duplicates, constants, tiny and huge values, more dimensions than rows."""
    shape = draw(st.tuples(st.integers(1, max_rows), st.integers(1, 12)))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    values = st.floats(-100, 100, width=32).map(lambda value: value * scale) | st.sampled_from([0.0, scale])
    return draw(
        arrays(np.float32, shape, elements=st.builds(float, values).map(np.float32).map(float), fill=st.just(0.0))
    )


def fit_or_refuse(embeddings_ND: np.ndarray, chosen: ClusteringSettings) -> FittedClustering | None:
    """None where there are too few different embeddings, the only fault that finite ones can have."""
    try:
        return fit_clusterer(embeddings_ND, chosen)
    except InputError as error:
        if "different embeddings" not in str(error):
            raise
        return None


def make_settings(**changes) -> ClusteringSettings:
    return ClusteringSettings(Path(), Path(), **changes)


@pytest.mark.parametrize("algorithm", ALGORITHMS_OF_POINTS)
@few
@given(
    embeddings_ND=embeddings(),
    num_experts=st.integers(1, 6),
    reduce=st.sampled_from(["none", "pca"]),
    noise=st.sampled_from(["drop", "nearest", "uniform"]),
    temperature=st.sampled_from([None, 0.01, 1.0]),
)
def test_soft_labels_are_distributions_or_the_input_is_refused(
    algorithm, embeddings_ND, num_experts, reduce, noise, temperature
):
    chosen = make_settings(
        algorithm=algorithm, num_experts=num_experts, reduce=reduce, noise=noise, temperature=temperature
    )
    fitted = fit_or_refuse(embeddings_ND, chosen)
    if fitted is None:
        return
    prediction = fitted.clusterer.predict(embeddings_ND)
    assert np.isfinite(prediction.probs_NE).all()
    assert (prediction.probs_NE >= 0).all()
    np.testing.assert_allclose(prediction.probs_NE.sum(axis=1), 1, atol=1e-5)
    assert set(prediction.labels_N) <= set(range(-1, fitted.clusterer.num_experts))
    assert set(range(fitted.partition.num_experts)) <= set(fitted.partition.labels_N)  # no cluster is empty
    assert len(prediction.probs_NE) == len(embeddings_ND)


@few
@given(groups=st.integers(2, 5), seed=st.integers(0, 1000), algorithm=st.sampled_from(["spectral", "kmeans"]))
def test_the_order_of_the_utterances_does_not_matter(groups, seed, algorithm):
    """Nor does it to HDBSCAN, whose ties it breaks: the command sorts by id (test_command.py)."""
    random = np.random.default_rng(seed)
    groups_N = np.arange(20 * groups) % groups
    embeddings_ND = (10 * np.eye(groups, 8)[groups_N] + random.normal(size=(len(groups_N), 8))).astype(np.float32)
    order = random.permutation(len(groups_N))
    chosen = make_settings(algorithm=algorithm, num_experts=groups)
    one = fit_clusterer(embeddings_ND, chosen).partition.labels_N
    other = fit_clusterer(embeddings_ND[order], chosen).partition.labels_N
    assert adjusted_rand_score(one[order], other) > 0.99


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30), permutation=st.permutations(range(5)))
def test_renumbering_forgets_the_names_of_the_clusters(labels, permutation):
    _, labels_N = np.unique(labels, return_inverse=True)
    num_clusters = labels_N.max() + 1
    other_N = np.argsort(np.array(permutation)[:num_clusters])[labels_N]
    np.testing.assert_array_equal(
        Partition("x", labels_N).renumbered().labels_N, Partition("x", other_N).renumbered().labels_N
    )


@given(
    logits=arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.floats(-1, 1)),
    target=st.floats(0.05, 0.95),
)
def test_calibration_never_fails_and_says_what_it_reached(logits, target):
    calibration = calibrate_temperature(logits, target)
    assert calibration.temperature > 0
    assert normalised_entropy(softmax(logits, calibration.temperature)) == pytest.approx(calibration.entropy)


@given(
    shares=arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.floats(0, 1)),
    noise=st.sampled_from(NOISE_POLICIES),
    temperature=st.floats(0.01, 10),
)
def test_noise_is_placed_so_that_rows_are_distributions(shares, noise, temperature):
    memberships_NE = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    fallback_NE = softmax(shares, 1.0)
    probs_NE = place_noise(memberships_NE, fallback_NE, noise, temperature)
    np.testing.assert_allclose(probs_NE.sum(axis=1), 1, atol=1e-9)
    assert (probs_NE >= 0).all()


@given(costs=arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=st.floats(0, 100)))
def test_balanced_labels_never_exceed_their_share(costs):
    labels_N = balanced_labels(costs)
    assert np.bincount(labels_N).max() <= -(-len(costs) // costs.shape[1])
