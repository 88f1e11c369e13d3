import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.spectral import spectral_partition

from .conftest import blobs

DATA = {
    "moons": (make_moons(300, noise=0.05, random_state=0)[0], 2),
    "circles": (make_circles(300, factor=0.5, noise=0.05, random_state=0)[0], 2),
    "blobs": (blobs(300, 5, spread=1.0)[0], 5),
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
    assert "landmarks stood for 300" in few.notes[0]


def test_more_parts_than_experts_are_tied_to_their_nearest():
    centres = np.array([[0, 0], [1, 0], [10, 0], [11, 0]])  # two pairs
    points_NR = np.repeat(centres, 30, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(120, 2))
    partition = spectral_partition(points_NR, 2, seed=0)
    assert "4 unconnected parts; the smallest were tied" in partition.notes[0]
    assert adjusted_rand_score(partition.labels_N, np.repeat([0, 0, 1, 1], 30)) == 1.0
