import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.spectral import leading_eigenvectors, neighbour_graph, spectral_partition

from .conftest import blobs

DATA = {
    "moons": (make_moons(300, noise=0.05, random_state=0)[0], 2),
    "circles": (make_circles(300, factor=0.5, noise=0.05, random_state=0)[0], 2),
    "blobs": (blobs(300, 5, spread=1.0)[0], 5),
    "blobs beyond the dense solver": (blobs(1500, 8, spread=1.0)[0], 8),
}


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")  # the moons are two parts
@pytest.mark.parametrize("name", DATA)
def test_the_partition_is_scikit_learns(name):
    points_NR, num_experts = DATA[name]
    partition = spectral_partition(points_NR, num_experts, seed=42)
    reference = SpectralClustering(num_experts, affinity="nearest_neighbors", n_neighbors=10, random_state=42)
    assert adjusted_rand_score(partition.labels_N, reference.fit_predict(points_NR)) == 1.0


@pytest.mark.parametrize(
    ("num_points", "num_experts"), [(1, 1), (2, 2), (3, 3), (4, 3), (8, 8), (9, 8), (12, 3), (40, 8)]
)
def test_there_are_as_many_clusters_as_asked_for_however_few_the_points(num_points, num_experts):
    partition = spectral_partition(blobs(num_points, 3)[0], num_experts, seed=0)
    assert set(partition.labels_N) == set(range(num_experts))


def test_a_graph_in_parts_is_said():
    partition = spectral_partition(blobs(200, 4, spread=0.01)[0], 4, seed=0)
    assert any("4 unconnected parts" in note for note in partition.notes)
    assert adjusted_rand_score(partition.labels_N, np.arange(200) % 4) == 1.0


def test_clusters_are_numbered_by_size():
    points_NR = np.concatenate([blobs(30, 1, seed=1)[0], blobs(60, 1, seed=2)[0] + 9])
    partition = spectral_partition(points_NR, 2, seed=0).renumbered()
    assert (partition.labels_N == [1] * 30 + [0] * 60).all()


@pytest.mark.parametrize("name", DATA)
def test_landmarks_give_the_partition_of_the_whole_graph(name):
    points_NR, num_experts = DATA[name]
    whole = spectral_partition(points_NR, num_experts, seed=0)
    few = spectral_partition(points_NR, num_experts, seed=0, exact_limit=100)
    assert adjusted_rand_score(whole.labels_N, few.labels_N) > 0.95
    assert f"landmarks stood for {len(points_NR)}" in few.notes[0]


def two_pairs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Four tight groups, two and two near each other."""
    centres = np.array([[0, 0], [1, 0], [10, 0], [11, 0]])
    points_NR = np.repeat(centres, size, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(4 * size, 2))
    return points_NR, np.repeat([0, 0, 1, 1], size)


def test_more_parts_than_experts_get_more_neighbours():
    points_NR, pairs_N = two_pairs(30)
    partition = spectral_partition(points_NR, 2, seed=0)
    assert "10 nearest neighbours falls into 4 unconnected parts; 40 neighbours were taken" in partition.notes[0]
    assert adjusted_rand_score(partition.labels_N, pairs_N) == 1.0


def test_parts_that_no_number_of_neighbours_joins_are_tied_to_their_nearest():
    points_NR, pairs_N = two_pairs(100)
    partition = spectral_partition(points_NR, 2, seed=0)
    assert "4 unconnected parts; the smallest were tied" in partition.notes[1]
    assert adjusted_rand_score(partition.labels_N, pairs_N) == 1.0


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("num_points", [300, 900])
def test_eigenvectors_are_those_of_the_dense_matrix_and_known_ones_are_not_found_twice(num_points, num_parts):
    groups_N = np.arange(num_points) % num_parts
    points_NR = np.random.default_rng(0).normal(size=(num_points, 5)) + 100 * groups_N[:, None]
    graph_NN = neighbour_graph(points_NR)
    values_E, vectors_NE = leading_eigenvectors(graph_NN, 6, seed=0)
    dense_NN = graph_NN.toarray()
    np.fill_diagonal(dense_NN, 0)
    degrees_N = dense_NN.sum(axis=1)
    normalised_NN = dense_NN / np.sqrt(np.outer(degrees_N, degrees_N))
    np.testing.assert_allclose(values_E, np.linalg.eigvalsh(normalised_NN)[::-1][:6], atol=1e-6)
    units_NE = vectors_NE * np.sqrt(degrees_N)[:, None]
    np.testing.assert_allclose(units_NE.T @ units_NE, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(normalised_NN @ units_NE, units_NE * values_E, atol=1e-5)
