"""Each quirk of the library, and each path of the search."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.features import unit_rows
from moe_lightning.clustering.hdbscan import fit_hdbscan, hdbscan_partition, merge_clusters, search
from moe_lightning.settings.clustering import TREE_ALGORITHMS, HdbscanOptions
from tests.refusals import refuses

from .conftest import blobs

NOISE_ND = np.random.default_rng(0).uniform(size=(30, 10))


def is_valid(fit) -> bool:
    sums_N = fit.memberships_NC.sum(axis=1)
    finite = np.isfinite(fit.memberships_NC).all() and (fit.memberships_NC >= 0).all()
    return bool(finite and (sums_N <= 1 + 1e-9).all() and fit.memberships_NC.shape[1] == fit.num_clusters)


@pytest.mark.parametrize("algorithm", TREE_ALGORITHMS)
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_every_tree_and_metric_finds_the_groups(algorithm, metric):
    points_ND, groups_N = blobs(120, 3)
    points_ND = unit_rows(points_ND) if metric == "cosine" else points_ND
    fit = fit_hdbscan(points_ND, 5, HdbscanOptions(metric=metric, hdbscan_algorithm=algorithm))
    assert is_valid(fit)
    assert fit.num_clusters == 3
    assert adjusted_rand_score(fit.labels_N, groups_N) > 0.9


def test_no_cluster_gives_memberships_without_columns():
    fit = fit_hdbscan(NOISE_ND, 15, HdbscanOptions())
    assert fit.num_clusters == 0
    assert fit.memberships_NC.shape == (30, 0)


def test_one_cluster_gives_one_column():
    points_ND = np.random.default_rng(0).normal(size=(200, 5))
    fit = fit_hdbscan(points_ND, 50, HdbscanOptions(allow_single_cluster=True))
    assert fit.num_clusters == 1
    assert is_valid(fit)
    assert (fit.memberships_NC[fit.labels_N == -1] == 0).all()


def test_coinciding_points_have_memberships_that_are_numbers():
    points_ND = np.repeat(blobs(10, 10)[0], 20, axis=0)
    fit = fit_hdbscan(points_ND, 5, HdbscanOptions())
    assert is_valid(fit)
    np.testing.assert_array_equal(fit.memberships_NC.argmax(axis=1), fit.labels_N)


@pytest.mark.parametrize("num_points", [1, 2, 3, 4, 6])
def test_a_handful_of_points_is_no_error(num_points):
    assert is_valid(fit_hdbscan(blobs(num_points, 1)[0], 5, HdbscanOptions()))


@pytest.mark.parametrize("metric", ["foo", "haversine", "precomputed", "minkowski"])
def test_a_metric_that_the_library_refuses_is_named(metric):
    with refuses("setting.conflict", f"--metric {metric}"):
        fit_hdbscan(blobs(40, 2)[0], 5, HdbscanOptions(metric=metric))


def test_the_search_lowers_min_cluster_size_until_there_are_enough_clusters():
    points_ND, _ = blobs(24, 8)  # three points a group
    fit, min_cluster_size = search(points_ND, HdbscanOptions(min_clusters=8, min_samples=1))
    assert (fit.num_clusters, min_cluster_size) == (8, 3)


def test_the_search_stops_at_min_cluster_size_2_and_after_max_retries():
    _, never_reached = search(NOISE_ND, HdbscanOptions(min_clusters=99, max_retries=50))
    _, first = search(NOISE_ND, HdbscanOptions(min_clusters=99, max_retries=0, min_cluster_size=7))
    assert never_reached >= 2
    assert first == 7


def test_too_few_clusters_shrink_the_number_of_experts():
    partition = hdbscan_partition(blobs(200, 4)[0], 8, 42, HdbscanOptions())
    assert partition.algorithm == "hdbscan"
    assert partition.num_experts == 4
    assert "4 experts instead of 8" in partition.notes[0]


def test_too_few_clusters_are_an_error_with_no_reduce_experts():
    with refuses("clusters.too-few", 8):
        hdbscan_partition(blobs(200, 4)[0], 8, 42, HdbscanOptions(no_reduce_experts=True))


def test_no_cluster_at_all_falls_back_to_spectral_and_says_so():
    options = HdbscanOptions(min_cluster_size=15, max_retries=0)
    partition = hdbscan_partition(NOISE_ND, 3, 42, options)
    assert partition.algorithm == "spectral"
    assert partition.num_experts == 3
    assert "spectral clustering into 3 took its place" in partition.notes[0]


def test_shrinking_stops_at_min_experts():
    partition = hdbscan_partition(blobs(200, 2, spread=0.1)[0], 8, 42, HdbscanOptions(min_experts=3))
    assert partition.num_experts == 3


def test_one_cluster_stays_one_when_it_is_allowed():
    points_ND = np.random.default_rng(0).normal(size=(100, 5))
    options = HdbscanOptions(allow_single_cluster=True, min_experts=1, min_cluster_size=40, max_retries=0)
    partition = hdbscan_partition(points_ND, 8, 42, options)
    assert (partition.algorithm, partition.num_experts) == ("hdbscan", 1)


@pytest.mark.parametrize("num_experts", [1, 2, 5])
def test_surplus_clusters_are_merged_and_their_probabilities_added(num_experts):
    points_ND, _ = blobs(200, 10, spread=0.1)
    whole = hdbscan_partition(points_ND, 10, 42, HdbscanOptions())
    merged = merge_clusters(points_ND, whole, num_experts)
    assert merged.num_experts == num_experts
    np.testing.assert_allclose(merged.memberships_NE.sum(axis=1), whole.memberships_NE.sum(axis=1))
    for cluster in range(10):
        assert len(set(merged.labels_N[whole.labels_N == cluster])) == 1
    np.testing.assert_array_equal(merged.labels_N == -1, whole.labels_N == -1)
