import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from moe_lightning.clustering.umap_layout import fuzzy_graph, umap_layout

from .conftest import blobs


def test_strengths_are_symmetric_and_one_to_the_nearest():
    rows_ND, _ = blobs(100, 4)
    graph_NN = fuzzy_graph(rows_ND).toarray()
    np.testing.assert_allclose(graph_NN, graph_NN.T)
    assert (graph_NN.diagonal() == 0).all()
    np.testing.assert_allclose(graph_NN.max(axis=1), 1)


def test_strengths_fall_off_so_that_they_sum_to_the_logarithm_of_the_neighbours():
    line_N1 = np.arange(200.0)[:, None] ** 1.3  # distances grow, strengths must not
    graph_NN = fuzzy_graph(line_N1, num_neighbours=7).toarray()
    one_way_N = (1 + graph_NN.sum(axis=1)) / 2  # a row's own share lies between the half and the whole
    assert (graph_NN.sum(axis=1) >= np.log2(8) - 1e-6).all()
    assert (one_way_N <= 2 * np.log2(8)).all()


def test_the_layout_keeps_neighbourhoods_and_is_the_same_each_time():
    rows_ND, _ = blobs(200, 4, spread=0.6)
    layout_N2 = umap_layout(rows_ND, 2, seed=0, min_dist=0.5)
    assert trustworthiness(rows_ND, layout_N2, n_neighbors=10) > 0.9
    np.testing.assert_array_equal(layout_N2, umap_layout(rows_ND, 2, seed=0, min_dist=0.5))
    assert not np.allclose(layout_N2, umap_layout(rows_ND, 2, seed=1, min_dist=0.5))


@pytest.mark.parametrize("num_rows", [1, 3, 4, 12])
def test_a_handful_of_rows_is_laid_out(num_rows):
    layout_N2 = umap_layout(blobs(num_rows, 1)[0], 2, seed=0)
    assert layout_N2.shape == (num_rows, 2)
    assert np.isfinite(layout_N2).all()


def test_rows_that_coincide_are_laid_out():
    assert np.isfinite(umap_layout(np.repeat(blobs(5, 5)[0], 8, axis=0), 2, seed=0)).all()
