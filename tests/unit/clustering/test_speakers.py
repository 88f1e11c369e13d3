"""Utterances moved towards their speaker, and how that is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from moe_lightning.clustering.__main__ import main
from moe_lightning.clustering.association import information, swapped
from moe_lightning.clustering.fit import fit_clusterer
from moe_lightning.clustering.judgement import stability
from moe_lightning.clustering.speakers import choose_share, towards_speakers
from moe_lightning.clustering.stage import label_files
from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry, shard_name
from moe_lightning.data.soft_labels import HardLabels
from moe_lightning.settings.clustering import ClusteringSettings

NUM_SPEAKERS, NUM_EACH, NUM_GROUPS = 40, 12, 4
SPEAKERS_N = np.arange(NUM_SPEAKERS * NUM_EACH) % NUM_SPEAKERS
GROUPS_N = SPEAKERS_N % NUM_GROUPS


def sentences(groups_matter: bool = True) -> np.ndarray:
    """Embeddings in which what is said differs twice as much as who speaks, and that as much as the group."""
    random = np.random.default_rng(0)
    groups_ND = random.normal(size=(NUM_GROUPS, 20))[GROUPS_N] * groups_matter
    speakers_ND = 0.5 * random.normal(size=(NUM_SPEAKERS, 20))[SPEAKERS_N]
    return (groups_ND + speakers_ND + 2 * random.normal(size=(len(SPEAKERS_N), 20))).astype(np.float32)


@pytest.fixture
def store_dir(tmp_path):
    """A quarter of the speakers are of the dev split; one utterance has no speaker."""
    entries = tuple(
        StoreEntry(f"u{row:04d}", f"s{speaker}" if row else "", "", "", shard_name(0), row, split)
        for row, (speaker, split) in enumerate((speaker, "train" if speaker < 30 else "dev") for speaker in SPEAKERS_N)
    )
    EmbeddingStore(entries, sentences(), None).save(tmp_path / "store")
    return tmp_path / "store"


def settings(**changes) -> ClusteringSettings:
    return ClusteringSettings(Path(), Path(), **{"algorithm": "kmeans", "num_experts": 4, **changes})


def test_rows_go_their_share_of_the_way_and_a_row_of_nobody_stays():
    rows_ND = np.array([[0.0, 0], [4, 2], [7, 7], [9, 9]], dtype=np.float32)
    moved_ND = towards_speakers(rows_ND, ["a", "a", "", ""], 0.5)
    np.testing.assert_allclose(moved_ND, [[1, 0.5], [3, 1.5], [7, 7], [9, 9]])
    np.testing.assert_allclose(towards_speakers(rows_ND, ["a", "a", "b", "b"], 1)[:2], [[2, 1], [2, 1]])
    assert towards_speakers(rows_ND, ["a"] * 4, 0) is rows_ND


def test_the_order_of_the_rows_changes_nothing():
    order = np.random.default_rng(1).permutation(len(SPEAKERS_N))
    names = [f"s{speaker}" for speaker in SPEAKERS_N]
    there_ND = towards_speakers(sentences()[order], [names[row] for row in order], 0.8)
    np.testing.assert_array_equal(there_ND, towards_speakers(sentences(), names, 0.8)[order])


def test_auto_needs_four_speakers_an_expert_and_speakers_who_speak_twice():
    assert choose_share(settings(), ["a", "b", "c"] * 9) == 0
    assert choose_share(settings(), [f"s{row % 16}" for row in range(40)]) == 0.8
    assert choose_share(settings(), [f"s{row}" for row in range(40)]) == 0
    assert choose_share(settings(), [""] * 40) == 0
    assert choose_share(settings(pool_speakers=0.3), ["a", "a"]) == 0.3


@pytest.mark.parametrize("algorithm", ["kmeans", "spectral"])
def test_populations_that_sentences_hide_are_found_by_speakers(store_dir, tmp_path, algorithm):
    found = {}
    for share in ("0", "auto"):
        flags = ["--algorithm", algorithm, "--num-experts", "4", "--plot", "none", "--no-report"]
        out = ["--output-dir", str(tmp_path / "run" / share), "--pool-speakers", share]
        main(["--embedding-dir", str(store_dir), *out, *flags])
        labels_file, _ = label_files(tmp_path / "run" / share, algorithm)
        found[share] = adjusted_mutual_info_score(GROUPS_N, HardLabels.load(labels_file).labels_N)
    assert found["0"] < 0.5
    assert found["auto"] > 0.9


def test_a_finished_clustering_moves_the_utterances_of_another_store_alike(store_dir, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--algorithm", "kmeans", "--num-experts", "4", "--plot", "none", "--no-report"]
    main(["--embedding-dir", str(store_dir), "--output-dir", str(run / "clustered"), *flags])
    assert "with a weight of 0.8" in capsys.readouterr().out
    assert json.loads((run / "clustered" / "clusterer.json").read_text())["settings"]["pool_speakers"] == 0.8
    main(["predict", "--run-dir", str(run), "--embedding-dir", str(store_dir)])
    fitted = HardLabels.load(run / "clustered" / "kmeans.json")
    np.testing.assert_array_equal(
        HardLabels.load(run / "clustered" / "predicted" / "kmeans.json").labels_N, fitted.labels_N
    )


def test_few_speakers_in_clusters_at_random_have_no_information_on_their_accent():
    random = np.random.default_rng(0)
    accent_N, cluster_N = random.integers(7, size=60), random.integers(8, size=60)
    speakers_N = np.repeat(np.arange(60), 20)
    assert adjusted_mutual_info_score(accent_N[speakers_N], cluster_N[speakers_N]) > 0.1
    assert abs(information(accent_N[speakers_N], cluster_N[speakers_N], speakers_N)) < 0.05
    assert information(accent_N[speakers_N], accent_N[speakers_N], speakers_N) == pytest.approx(1)


def test_values_swapped_at_once_are_those_handed_on_one_speaker_after_another():
    counts_S = np.array([3, 1, 4, 2])
    codes_N = np.arange(10)
    givers = np.random.default_rng(5).permutation(4)
    of_speaker = np.split(codes_N, np.cumsum(counts_S)[:-1])
    expected_N = np.concatenate([np.resize(of_speaker[giver], counts_S[taker]) for taker, giver in enumerate(givers)])
    np.testing.assert_array_equal(swapped(codes_N, counts_S, np.random.default_rng(5)), expected_N)


def test_clusters_of_speakers_without_populations_are_no_more_stable_than_shuffled_ones():
    names = [f"s{speaker}" for speaker in SPEAKERS_N]
    there, absent = (
        stability(towards_speakers(sentences(matter), names, 0.8), 4, settings(), names) for matter in (True, False)
    )
    assert there.resamples > there.shuffled + 0.2
    assert there.in_words().startswith("Are they real? Yes")
    assert absent.in_words().startswith(("Are they real? No:", "Are they real? Not established"))


def test_auto_counts_populations_and_not_the_islands_of_their_speakers():
    names = [f"s{speaker}" for speaker in SPEAKERS_N]
    fitted = fit_clusterer(towards_speakers(sentences(), names, 0.8), settings(num_experts=None), speakers=names)
    assert fitted.clusterer.num_experts == NUM_GROUPS


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "half"])
def test_a_share_that_is_none_is_refused(store_dir, tmp_path, capsys, share):
    with pytest.raises(SystemExit) as stopped:
        main(["--embedding-dir", str(store_dir), "--output-dir", str(tmp_path / "out"), f"--pool-speakers={share}"])
    assert stopped.value.code == 2
    assert "--pool-speakers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_few_speakers_with_many_utterances_do_not_take_the_clusters_of_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups_S = np.repeat(np.arange(3), 40)
    people_SD = 4 * rng.normal(size=(3, 6))[groups_S] + rng.normal(size=(120, 6))
    readers_SD = 12 + 3 * rng.normal(size=(3, 6))
    counts_S = [2] * 120 + [300] * 3
    embeddings_ND = np.repeat(np.concatenate([people_SD, readers_SD]), counts_S, axis=0).astype(np.float32)
    names = [f"speaker {number}" for number, count in enumerate(counts_S) for _ in range(count)]
    chosen = ClusteringSettings(tmp_path, tmp_path, algorithm="kmeans", num_experts=4, reduce="none")
    labels_N = fit_clusterer(embeddings_ND, chosen, speakers=names).partition.labels_N
    of_people_N = labels_N[:240]
    assert adjusted_rand_score(np.repeat(groups_S, 2), of_people_N) > 0.9
    assert len(set(labels_N[240:])) == 1
    alone_N = fit_clusterer(embeddings_ND, chosen).partition.labels_N
    assert len(set(alone_N[240:])) > 1
