"""Clusters by predicted gradients, on embeddings that tell of voices first."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import adjusted_mutual_info_score

from moe_lightning.clustering.features import fit_features
from moe_lightning.clustering.kmeans import kmeans_labels
from moe_lightning.clustering.predicted_gradients import clipped, predicted_directions
from tests.refusals import refuses

NUM_UTTERANCES, DIM, NUM_ACCENTS, NUM_VOICES = 600, 24, 3, 8


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings in which voices lie further apart than accents, gradients of accents under noise, and the accents."""
    rng = np.random.default_rng(0)
    accents_N, voices_N = rng.integers(NUM_ACCENTS, size=NUM_UTTERANCES), rng.integers(NUM_VOICES, size=NUM_UTTERANCES)
    voices_ND = 4 * rng.normal(size=(NUM_VOICES, DIM))[voices_N]
    embeddings_ND = voices_ND + rng.normal(size=(NUM_ACCENTS, DIM))[accents_N] + 0.3 * rng.normal(size=voices_ND.shape)
    gradients_NG = rng.normal(size=(NUM_ACCENTS, 10))[accents_N] + 2 * rng.normal(size=(NUM_UTTERANCES, 10))
    return embeddings_ND, gradients_NG, accents_N


def test_clusters_of_predicted_gradients_follow_what_training_needs_and_not_the_voice(speech) -> None:
    embeddings_ND, gradients_NG, accents_N = speech
    agreement = {}
    for reduce in ("pca", "gradients"):
        points_NR = fit_features(embeddings_ND, reduce=reduce, reduce_dim=10, gradients_NG=gradients_NG).points_NR
        labels_N = kmeans_labels(points_NR, NUM_ACCENTS, seed=0)
        agreement[reduce] = adjusted_mutual_info_score(accents_N, labels_N)
    assert agreement["pca"] < 0.2
    assert agreement["gradients"] > 0.8
    of_gradients = adjusted_mutual_info_score(accents_N, kmeans_labels(gradients_NG, NUM_ACCENTS, seed=0))
    assert of_gradients < agreement["gradients"], "what the embedding does not predict is noise"


def test_distances_are_those_of_the_predicted_gradients(speech) -> None:
    embeddings_ND, gradients_NG, _ = speech
    rows_ND = embeddings_ND - embeddings_ND.mean(axis=0)
    speakers = [f"speaker {number % 60}" for number in range(NUM_UTTERANCES)]
    directions_RD, share = predicted_directions(rows_ND, gradients_NG, 10, speakers)
    targets_NG = clipped(gradients_NG)
    targets_NG = targets_NG - targets_NG.mean(axis=0)
    penalties = np.logspace(-3, 2, 11) * rows_ND.var(axis=0).mean()
    errors = [_error_on_others(rows_ND, targets_NG, speakers, penalty) for penalty in penalties]
    best = penalties[int(np.argmin(errors))] * len(rows_ND)
    predicted_NG = Ridge(best, fit_intercept=False).fit(rows_ND, targets_NG).predict(rows_ND)
    points_NR = rows_ND @ directions_RD.T
    one, other = np.triu_indices(20, 1)
    np.testing.assert_allclose(
        np.linalg.norm(points_NR[one] - points_NR[other], axis=1),
        np.linalg.norm(predicted_NG[one] - predicted_NG[other], axis=1),
        rtol=1e-6,
    )
    assert share == pytest.approx(1 - min(errors) / (targets_NG**2).sum())


def _error_on_others(rows_ND: np.ndarray, targets_NG: np.ndarray, speakers: list[str], penalty: float) -> float:
    """Sum of squared errors on the speakers that a regression has not seen, a fifth of them at a time."""
    names = np.unique(speakers)
    fold_of = dict(zip(names, np.random.default_rng(42).permutation(len(names)) % 5, strict=True))
    fold_N = np.array([fold_of[name] for name in speakers])
    errors = []
    for fold in range(5):
        seen_N = fold_N != fold
        ridge = Ridge(penalty * seen_N.sum(), fit_intercept=False).fit(rows_ND[seen_N], targets_NG[seen_N])
        errors.append(((targets_NG[~seen_N] - ridge.predict(rows_ND[~seen_N])) ** 2).sum())
    return float(np.sum(errors))


def test_gradients_that_embeddings_say_nothing_of_are_told(speech) -> None:
    rng = np.random.default_rng(1)
    speakers = [f"speaker {number % 60}" for number in range(NUM_UTTERANCES)]
    own_NG = rng.normal(size=(60, 10))[np.arange(NUM_UTTERANCES) % 60]  # of the speaker, and of nothing else
    rows_ND = rng.normal(size=(60, DIM))[np.arange(NUM_UTTERANCES) % 60]
    space = fit_features(rows_ND, reduce="gradients", gradients_NG=own_NG, speakers=speakers).space
    assert any("predict nothing" in note for note in space.notes)


def test_a_faulty_transcript_weighs_no_more_than_the_median_utterance(speech) -> None:
    embeddings_ND, gradients_NG, accents_N = speech
    faulty_NG = gradients_NG.copy()
    faulty_NG[::50] *= 1000
    lengths_N = np.linalg.norm(clipped(faulty_NG), axis=1)
    assert lengths_N.max() == pytest.approx(np.median(np.linalg.norm(faulty_NG, axis=1)))
    points_NR = fit_features(embeddings_ND, reduce="gradients", reduce_dim=10, gradients_NG=faulty_NG).points_NR
    assert adjusted_mutual_info_score(accents_N, kmeans_labels(points_NR, NUM_ACCENTS, seed=0)) > 0.8


def test_gradients_without_any_difference_are_refused() -> None:
    rows_ND = np.random.default_rng(0).normal(size=(30, 4))
    with refuses("clusters.no-signal"):
        predicted_directions(rows_ND, np.zeros((30, 6)), dim=4)
