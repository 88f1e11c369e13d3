import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from moe_lightning.clustering.clusterer import ARRAYS_FILE, CONFIG_FILE, Clusterer
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.memberships import normalised_entropy
from moe_lightning.clustering.stage import label_store
from moe_lightning.settings.clustering import ClusteringSettings, HdbscanOptions
from tests.refusals import refuses

from .conftest import blobs


def settings(tmp_path, **changes) -> ClusteringSettings:
    return ClusteringSettings(tmp_path, tmp_path, **{"num_experts": 4, "plot": "none", **changes})


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
@pytest.mark.parametrize("reduce", ["none", "pca", "umap"])
def test_predicting_the_training_embeddings_gives_back_their_labels(tmp_path, algorithm, reduce):
    embeddings_ND, _ = blobs(200, 4, spread=0.6)
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm=algorithm, reduce=reduce, reduce_dim=5))
    np.testing.assert_array_equal(fitted.clusterer.predict(embeddings_ND).labels_N, fitted.partition.labels_N)


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
def test_new_embeddings_get_the_labels_of_their_group(tmp_path, algorithm):
    embeddings_ND, groups_N = blobs(400, 4)
    fitted = fit_clusterer(embeddings_ND[:300], settings(tmp_path, algorithm=algorithm))
    prediction = fitted.clusterer.predict(embeddings_ND[300:])
    assert adjusted_rand_score(prediction.labels_N, groups_N[300:]) > 0.95
    assert (prediction.probs_NE.argmax(axis=1) == prediction.labels_N).mean() > 0.95


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
@pytest.mark.parametrize("reduce", ["pca", "umap"])
def test_a_saved_clusterer_predicts_the_same(tmp_path, algorithm, reduce):
    embeddings_ND, _ = blobs(200, 4)
    made = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm=algorithm, reduce=reduce, reduce_dim=5)).clusterer
    made.save(tmp_path)
    loaded = Clusterer.load(tmp_path)
    np.testing.assert_array_equal(loaded.soft_labels(embeddings_ND), made.soft_labels(embeddings_ND))


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
def test_soft_labels_meet_the_target_entropy(tmp_path, algorithm):
    embeddings_ND, _ = blobs(300, 4, spread=0.5)
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm=algorithm, target_entropy=0.3))
    is_clustered_N = fitted.partition.labels_N >= 0
    probs_NE = fitted.clusterer.soft_labels(embeddings_ND)[is_clustered_N]
    assert normalised_entropy(probs_NE) == pytest.approx(0.3, abs=0.03)


def test_soft_labels_at_temperature_1_are_the_guides(tmp_path):
    embeddings_ND, _ = blobs(100, 4)
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="spectral", temperature=1.0))
    points_NR = fitted.points_NR / np.linalg.norm(fitted.points_NR, axis=1, keepdims=True)
    centroids = [fitted.points_NR[fitted.partition.labels_N == expert].mean(axis=0) for expert in range(4)]
    exp_NE = np.exp(points_NR @ np.stack([centroid / np.linalg.norm(centroid) for centroid in centroids]).T)
    np.testing.assert_allclose(
        fitted.clusterer.soft_labels(embeddings_ND), exp_NE / exp_NE.sum(axis=1, keepdims=True), rtol=1e-5
    )


def test_cosine_ignores_the_length_of_an_embedding(tmp_path):
    embeddings_ND, groups_N = blobs(200, 4, spread=0.1)
    lengths_N1 = np.random.default_rng(0).uniform(0.2, 5, size=(200, 1)).astype(np.float32)
    options = HdbscanOptions(metric="cosine", min_clusters=4)
    fitted = fit_clusterer(
        embeddings_ND * lengths_N1, settings(tmp_path, reduce="none", standardise=False, hdbscan=options)
    )
    assert adjusted_rand_score(fitted.partition.labels_N, groups_N) > 0.95


def test_fewer_utterances_than_experts_name_both_numbers(tmp_path):
    with refuses("clusters.too-few", 3):
        fit_clusterer(blobs(3, 3)[0], settings(tmp_path, algorithm="spectral"))


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
def test_equal_embeddings_are_an_error(tmp_path, algorithm):
    with refuses("clusters.too-few", 1):
        fit_clusterer(np.ones((30, 5), dtype=np.float32), settings(tmp_path, algorithm=algorithm))


@pytest.mark.parametrize("algorithm", ["spectral", "hdbscan"])
def test_embeddings_that_come_twice_share_a_cluster(tmp_path, algorithm):
    embeddings_ND, _ = blobs(60, 4)
    fitted = fit_clusterer(np.repeat(embeddings_ND, 2, axis=0), settings(tmp_path, algorithm=algorithm))
    np.testing.assert_array_equal(fitted.partition.labels_N[::2], fitted.partition.labels_N[1::2])


def test_a_missing_clusterer_names_the_command_that_makes_it(tmp_path):
    with refuses("file.missing", "clusterer.json"):
        Clusterer.load(tmp_path)


def test_a_clusterer_cut_off_is_named(tmp_path):
    fit_clusterer(blobs(60, 4)[0], settings(tmp_path)).clusterer.save(tmp_path)
    whole = (tmp_path / ARRAYS_FILE).read_bytes()
    (tmp_path / ARRAYS_FILE).write_bytes(whole[:100])
    with refuses("file.unreadable", ARRAYS_FILE):
        Clusterer.load(tmp_path)
    (tmp_path / ARRAYS_FILE).write_bytes(whole)
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"noise": "drop"}))
    with refuses("file.malformed", "clusterer.json"):
        Clusterer.load(tmp_path)


def test_a_cluster_that_swallows_everything_is_said(tmp_path):
    embeddings_ND = np.concatenate([blobs(90, 1)[0], blobs(10, 1, seed=1)[0] + 5])
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="kmeans", num_experts=2))
    assert "cluster 0 holds 90% of the training utterances" in fitted.notes[-1]


def test_soft_labels_that_tell_of_other_clusters_than_the_labels_are_said(tmp_path):
    rng = np.random.default_rng(0)
    on_a_line_ND = np.concatenate([rng.normal(size=(100, 6)) + place * 20 * np.eye(6)[0] for place in (-1, 0, 1)])
    flags = {"algorithm": "spectral", "num_experts": 3, "reduce": "none", "standardise": False}
    fitted = fit_clusterer(on_a_line_ND.astype(np.float32), settings(tmp_path, **flags))
    own = fitted.clusterer.predict(on_a_line_ND.astype(np.float32))
    elsewhere = (own.probs_NE.argmax(axis=1) != own.labels_N).mean()
    assert elsewhere > 0.05
    assert (
        f"{elsewhere:.0%} of the training utterances have the highest soft label in another cluster" in fitted.notes[-1]
    )
    apart = fit_clusterer(blobs(200, 4, spread=0.3)[0], settings(tmp_path, algorithm="kmeans"))
    assert not [note for note in apart.notes if "another cluster" in note]


def test_the_highest_soft_label_of_k_means_is_the_cluster(tmp_path):
    rng = np.random.default_rng(0)
    on_a_line_ND = np.concatenate([rng.normal(size=(100, 6)) + place * 20 * np.eye(6)[0] for place in (-1, 0, 1)])
    flags = {"algorithm": "kmeans", "num_experts": 3, "reduce": "none", "standardise": False}
    clusterer = fit_clusterer(on_a_line_ND, settings(tmp_path, **flags)).clusterer
    clusterer.save(tmp_path)
    for one in (clusterer, Clusterer.load(tmp_path)):
        own = one.predict(on_a_line_ND + 3.0)
        assert (own.probs_NE.argmax(axis=1) == own.labels_N).all()
    assert normalised_entropy(own.probs_NE) == pytest.approx(0.4, abs=0.2)


def test_noise_becomes_the_last_expert_where_it_is_to_be_one(tmp_path):
    scattered_ND = np.random.default_rng(0).uniform(-30, 30, size=(100, 20)).astype(np.float32)
    embeddings_ND = np.concatenate([blobs(80, 2, spread=0.1)[0], scattered_ND])
    chosen = settings(tmp_path, algorithm="hdbscan", num_experts=2, noise="noop")
    clusterer = fit_clusterer(embeddings_ND, chosen).clusterer
    prediction = clusterer.predict(embeddings_ND)
    is_noise_N = prediction.labels_N == -1
    assert is_noise_N.sum() > 50
    assert prediction.probs_NE.shape == (180, clusterer.num_experts + 1)
    assert prediction.probs_NE[is_noise_N, -1].mean() > 0.5 > 2 * prediction.probs_NE[~is_noise_N, -1].mean()
    clusterer.save(tmp_path)
    np.testing.assert_array_equal(Clusterer.load(tmp_path).soft_labels(embeddings_ND), prediction.probs_NE)


def test_where_spectral_clustering_takes_hdbscans_place_the_column_of_noise_is_empty(tmp_path):
    embeddings_ND = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    options = HdbscanOptions(min_cluster_size=15, max_retries=0)
    chosen = settings(tmp_path, algorithm="hdbscan", num_experts=3, noise="noop", hdbscan=options)
    fitted = fit_clusterer(embeddings_ND, chosen)
    assert fitted.partition.algorithm == "spectral"
    probs_NE = fitted.clusterer.soft_labels(embeddings_ND)
    assert probs_NE.shape == (40, 4)
    assert (probs_NE[:, 3] == 0).all()


def test_much_noise_is_said(tmp_path):
    scattered_ND = np.random.default_rng(0).uniform(-30, 30, size=(100, 20)).astype(np.float32)
    embeddings_ND = np.concatenate([blobs(80, 2, spread=0.1)[0], scattered_ND])
    fitted = fit_clusterer(embeddings_ND, settings(tmp_path, algorithm="hdbscan", num_experts=2))
    assert "of the training utterances are noise" in fitted.notes[-1]


@pytest.mark.parametrize("algorithm", ["kmeans", "random", "label", "hdbscan"])
def test_training_utterances_of_a_large_corpus_are_labelled_as_a_search_would(algorithm: str, tmp_path: Path) -> None:
    points_ND = np.random.default_rng(0).normal(size=(120, 6)) + 8 * (np.arange(120) % 3)[:, None]
    rows = np.flatnonzero(np.arange(120) % 4 != 3)[::-1]
    hdbscan = HdbscanOptions(min_clusters=2, min_cluster_size=5)
    field = "accent" if algorithm == "label" else None
    settings = ClusteringSettings(
        tmp_path, tmp_path, algorithm=algorithm, num_experts=3, label_field=field, reduce="none", hdbscan=hdbscan
    )
    values = [f"value {row % 2}" for row in rows] if field else None
    fitted = fit_clusterer(points_ND[rows], settings, values)
    searched, share = label_store(fitted, points_ND, rows)
    known, sampled_share = label_store(fitted, points_ND, rows, most_searched=30)
    assert np.array_equal(known.labels_N, searched.labels_N)
    np.testing.assert_allclose(known.probs_NE, searched.probs_NE, atol=1e-6)
    assert share == sampled_share == 1.0
