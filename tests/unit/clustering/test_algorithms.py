"""K-means, balanced, random and label."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.algorithms import partition_points
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.hdbscan import hdbscan_partition
from moe_lightning.clustering.kmeans import balanced_labels
from moe_lightning.clustering.num_experts import choose_num_experts
from moe_lightning.settings.clustering import ClusteringSettings, HdbscanOptions
from tests.refusals import refuses

from .conftest import blobs


def settings(tmp_path, **changes) -> ClusteringSettings:
    return ClusteringSettings(tmp_path, tmp_path, **{"num_experts": 4, "plot": "none", **changes})


@pytest.mark.parametrize("algorithm", ["spectral", "kmeans", "balanced"])
def test_each_algorithm_finds_the_groups(tmp_path, algorithm):
    points_NR, groups_N = blobs(200, 4)
    partition = partition_points(points_NR, settings(tmp_path, algorithm=algorithm))
    assert adjusted_rand_score(partition.labels_N, groups_N) == 1.0


@pytest.mark.parametrize("num_experts", [2, 7])
def test_balanced_clusters_differ_by_one_utterance_at_most(tmp_path, num_experts):
    points_NR = np.concatenate([blobs(150, 1)[0], blobs(37, 1, seed=1)[0]])
    partition = partition_points(points_NR, settings(tmp_path, algorithm="balanced", num_experts=num_experts))
    assert np.bincount(partition.labels_N).max() == -(-187 // num_experts)


def test_balanced_labels_cost_little_more_than_the_best_assignment():
    from scipy.optimize import linear_sum_assignment

    costs_NE = np.random.default_rng(0).uniform(size=(60, 4))
    labels_N = balanced_labels(costs_NE)
    seats = np.repeat(np.arange(4), 15)
    rows, best = linear_sum_assignment(costs_NE[:, seats])
    assert costs_NE[np.arange(60), labels_N].sum() <= 1.02 * costs_NE[rows, seats[best]].sum()


@pytest.mark.parametrize("algorithm", ["spectral", "kmeans", "balanced", "random"])
def test_the_labels_of_the_fit_are_predicted(tmp_path, algorithm):
    embeddings_ND, _ = blobs(300, 4, spread=1.0)
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm=algorithm))
    agreement = (fitted.clusterer.predict(embeddings_ND).labels_N == fitted.partition.labels_N).mean()
    assert agreement >= 0.99


def test_random_labels_know_nothing_of_the_groups(tmp_path):
    points_NR, groups_N = blobs(400, 4)
    partition = partition_points(points_NR, settings(tmp_path, algorithm="random"))
    assert (np.bincount(partition.labels_N) == 100).all()
    assert abs(adjusted_rand_score(partition.labels_N, groups_N)) < 0.02


def test_known_labels_are_kept_and_the_rest_are_spread(tmp_path):
    embeddings_ND, groups_N = blobs(200, 4)
    names = np.array(["scottish", "irish", "telephone", "welsh"])[groups_N]
    values = [name if row % 10 < 4 else None for row, name in enumerate(names)]
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="label", label_field="accent"), values)
    assert fitted.clusterer.num_experts == 4
    assert adjusted_rand_score(fitted.partition.labels_N, groups_N) == 1.0
    assert "120 utterances without it were labelled by their neighbours" in fitted.notes[-1]
    known = [row for row, value in enumerate(values) if value]
    assert fitted.clusterer.soft_labels(embeddings_ND)[known].max(axis=1).min() > 0.99


def test_utterances_that_no_label_reaches_are_noise_and_not_of_the_first_label(tmp_path):
    embeddings_ND, groups_N = blobs(200, 4)
    values = [("irish", "scottish", None, None)[group] for group in groups_N]
    far_ND = embeddings_ND + 100 * (groups_N >= 2)[:, None].astype(np.float32)
    fitted = fit_clusterer(far_ND, settings(tmp_path, algorithm="label", label_field="accent"), values)
    assert fitted.partition.labels_N[groups_N >= 2].tolist() == [-1] * 100
    assert "100 have no labelled neighbour and are noise" in " ".join(fitted.notes)
    assert fitted.clusterer.predict(far_ND).labels_N[groups_N >= 2].tolist() == [-1] * 100


def test_a_label_that_contradicts_its_neighbours_is_kept(tmp_path):
    embeddings_ND, groups_N = blobs(100, 2)
    values = [f"group {group}" for group in groups_N]
    values[0] = "group 1"
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="label", label_field="x"), values)
    assert fitted.partition.labels_N[0] == fitted.partition.labels_N[1]


def test_a_label_without_a_field_is_refused(tmp_path):
    with refuses("setting.conflict", "--algorithm label"):
        settings(tmp_path, algorithm="label")


@pytest.mark.parametrize("num_groups", [2, 3, 5, 8])
def test_auto_finds_the_number_of_groups(num_groups):
    choice = choose_num_experts(blobs(300, num_groups, spread=0.8)[0], seed=0)
    assert choice.num_experts == num_groups
    assert "no number is stable" not in choice.in_words()


def test_auto_says_so_when_no_number_is_stable():
    points_NR = np.random.default_rng(0).normal(size=(300, 20))
    assert "the groups may not be real" in choose_num_experts(points_NR, seed=0).in_words()


def test_auto_of_hdbscan_keeps_the_clusters_that_it_finds(tmp_path):
    embeddings_ND, _ = blobs(200, 10, spread=0.1)
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="hdbscan", num_experts=None))
    assert fitted.clusterer.num_experts == 10


def test_hdbscan_of_a_sample_labels_the_others_as_the_whole_would():
    points_NR, groups_N = blobs(600, 4, spread=0.1)
    options = HdbscanOptions(min_clusters=4)
    part = hdbscan_partition(points_NR, 4, 0, options, sample_limit=300)
    assert "a sample of 300 of the 600" in part.notes[0]
    assert adjusted_rand_score(part.labels_N, groups_N) > 0.98
    assert part.memberships_NE.shape == (600, 4)
