import numpy as np
import pytest
from sklearn.decomposition import PCA

from moe_lightning.clustering.features import fit_features, pool, select_parts
from moe_lightning.data.store_info import StoreInfo
from tests.refusals import refuses

from .conftest import blobs


def test_standardised_pca_equals_scikit_learns():
    embeddings_ND, _ = blobs(100, 4)
    points_NR = fit_features(embeddings_ND, reduce_dim=3).points_NR
    scaled_ND = (embeddings_ND - embeddings_ND.mean(axis=0)) / embeddings_ND.std(axis=0)
    expected_NR = PCA(3).fit_transform(scaled_ND)
    np.testing.assert_allclose(np.abs(points_NR), np.abs(expected_NR), atol=1e-4)


def test_a_constant_dimension_is_left_out():
    embeddings_ND, _ = blobs(50, 2)
    embeddings_ND[:, 3] = 7.1
    points_NR = fit_features(embeddings_ND, reduce="none").points_NR
    assert (points_NR[:, 3] == 0).all()
    assert points_NR[:, 4].std() == pytest.approx(1)


def test_a_reduction_that_the_data_cannot_fill_shrinks_and_says_so():
    fitted = fit_features(blobs(30, 2, dim=8)[0], reduce_dim=50)
    assert fitted.points_NR.shape == (30, 8)
    assert fitted.space.notes == ("--reduce-dim 50 lowered to 8: the train split has 30 rows of size 8",)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_named(bad):
    embeddings_ND = np.zeros((4, 3), dtype=np.float32)
    embeddings_ND[2, 1] = bad
    with refuses("embeddings.not-finite", 2):
        fit_features(embeddings_ND)


def test_embeddings_of_another_size_are_refused():
    space = fit_features(blobs(30, 2, dim=8)[0]).space
    with refuses("embeddings.shape", (1, 9)):
        space.transform(np.zeros((1, 9)))


def test_a_umap_reduced_training_row_lands_on_its_own_coordinates():
    embeddings_ND, groups_N = blobs(60, 3)
    fitted = fit_features(embeddings_ND, reduce="umap", reduce_dim=2)
    np.testing.assert_allclose(fitted.space.umap.values_NV, fitted.points_NR, atol=1e-3)
    new_ND, new_groups_N = blobs(60, 3)  # the same centres
    new_points_NR = fitted.space.transform(new_ND + 0.01)
    centres = np.stack([fitted.points_NR[groups_N == group].mean(axis=0) for group in range(3)])
    nearest_N = np.linalg.norm(new_points_NR[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest_N == new_groups_N).all()


def test_frames_are_pooled_as_asked():
    frames_NTD = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(pool(frames_NTD, "mean"), frames_NTD.mean(axis=1))
    assert pool(frames_NTD, "flatten").shape == (2, 12)
    with refuses("embeddings.shape", (2, 3, 4)):
        pool(frames_NTD, "none")
    assert pool(frames_NTD[0], "flatten").shape == (3, 4)


LAYERS = StoreInfo("nano", "mean+std", 0.0, embedding_layer="2,4,last")
ROWS_ND = np.arange(12.0).reshape(2, 6)  # means of 2, 4 and last, then their deviations


@pytest.mark.parametrize(
    ("stats", "layers", "columns"),
    [
        (None, (), [0, 1, 2, 3, 4, 5]),
        ("mean", (), [0, 1, 2]),
        ("mean+std", ("4",), [1, 4]),
        ("mean", ("2", "last"), [0, 2]),
        (None, ("last", "2"), [0, 2, 3, 5]),
    ],
)
def test_statistics_and_layers_are_taken_out_of_what_a_store_joins(stats, layers, columns):
    np.testing.assert_array_equal(select_parts(ROWS_ND, LAYERS, stats, layers), ROWS_ND[:, columns])


@pytest.mark.parametrize(
    ("info", "stats", "layers", "flag"),
    [
        (LAYERS, None, ("3",), "--layers 3"),
        (None, None, ("6", "last"), "--layers 6,last"),
        (StoreInfo("nano", "mean", 0.0), "mean+std", (), "--pool-stats mean+std"),
        (StoreInfo("nano", "flatten", 30.0), None, ("last",), "--layers last"),
        (StoreInfo("nano", "flatten", 30.0), "mean", (), "--pool-stats mean"),
    ],
)
def test_what_a_store_does_not_hold_is_named_with_the_way_to_get_it(info, stats, layers, flag):
    with refuses("setting.conflict", flag):
        select_parts(ROWS_ND, info, stats, layers)


def test_an_unknown_store_is_taken_whole():
    assert select_parts(ROWS_ND, None, "mean") is ROWS_ND
