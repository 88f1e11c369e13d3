import numpy as np
import pytest

from moe_lightning.clustering.association import associate, verdict
from moe_lightning.clustering.judgement import separation, stability
from moe_lightning.settings.clustering import ClusteringSettings

from .conftest import blobs

LABELS_N = np.repeat([0, 1, 2], 40)
RANDOM = np.random.default_rng(0)


def test_a_field_that_is_the_clusters_has_information_1_and_one_that_is_not_about_0():
    same = associate("accent", ["abc"[label] for label in LABELS_N], LABELS_N)
    other = associate("day", [str(day) for day in RANDOM.integers(3, size=120)], LABELS_N)
    assert (same.ami, same.purity) == (pytest.approx(1), 1)
    assert same.counts_CV == ((40, 0, 0), (0, 40, 0), (0, 0, 40))
    assert abs(other.ami) < 0.05


def test_the_names_of_the_clusters_do_not_matter():
    values = [str(value) for value in RANDOM.integers(4, size=120)]
    renamed_N = np.array([2, 0, 1])[LABELS_N]
    assert associate("x", values, LABELS_N).ami == pytest.approx(associate("x", values, renamed_N).ami)


def test_numbers_are_cut_into_bins_and_gaps_are_counted():
    seconds = LABELS_N + RANDOM.uniform(0, 0.5, size=120)
    association = associate("duration", [None, float("nan"), *seconds[2:].tolist()], LABELS_N)
    assert association.is_nuisance
    assert association.num_missing == 2
    assert len(association.values) == 5
    assert association.ami > 0.6


def test_noise_is_a_row_of_its_own():
    labels_N = np.where(np.arange(120) < 10, -1, LABELS_N)
    association = associate("accent", ["abc"[label] for label in LABELS_N], labels_N)
    assert association.counts_CV == ((30, 0, 0), (0, 40, 0), (0, 0, 40), (10, 0, 0))


@pytest.mark.parametrize("values", [["a"] * 120, [None] * 120, [7.0] * 120])
def test_a_field_of_one_value_says_nothing(values):
    assert associate("x", values, LABELS_N) is None


def test_a_field_of_a_hundred_values_has_no_table():
    association = associate("speaker", [str(row % 60) for row in range(120)], LABELS_N)
    assert association.values == ()


def test_clusters_of_a_nuisance_are_warned_of():
    duration = associate("duration", LABELS_N.tolist(), LABELS_N)
    accent = associate("accent", ["ab"[row % 2] for row in range(120)], LABELS_N)
    warned = verdict([duration, accent])
    assert warned.is_warning
    assert warned.sentence.startswith("The clusters follow duration (1.00) more than any field of the manifest (accent")
    assert "--residualise duration" in warned.sentence


def test_clusters_are_not_explained_by_bookkeeping():
    licence = associate("license", [("CC0", "CC BY", "free")[label] for label in LABELS_N], LABELS_N)
    accent = associate("accent", ["abc"[label if row % 3 else 0] for row, label in enumerate(LABELS_N)], LABELS_N)
    assert (licence.is_bookkeeping, accent.is_bookkeeping) == (True, False)
    assert licence.ami > accent.ami > 0.2
    assert verdict([licence, accent]) == verdict([accent])
    assert verdict([licence]) == verdict([])


def test_clusters_of_a_field_are_not():
    accent = associate("accent", LABELS_N.tolist(), LABELS_N)
    duration = associate("duration", RANDOM.uniform(size=120).tolist(), LABELS_N)
    assert verdict([duration, accent]) == (
        "The clusters follow accent most (adjusted mutual information 1.00).",
        False,
    )
    assert "follow nothing that is known" in verdict([duration]).sentence
    assert "Nothing is known" in verdict([]).sentence


@pytest.mark.parametrize("algorithm", ["spectral", "kmeans", "hdbscan"])
def test_clusters_that_are_there_are_stable_and_those_of_shuffled_data_are_not(tmp_path, algorithm):
    points_NR, _ = blobs(200, 4)
    settings = ClusteringSettings(tmp_path, tmp_path, algorithm=algorithm, num_experts=4)
    found = stability(points_NR, 4, settings)
    assert min(found.resamples, found.seeds) > 0.9
    assert found.shuffled < 0.7
    assert "the same clusters" in found.in_words()


def test_given_labels_have_no_stability(tmp_path):
    settings = ClusteringSettings(tmp_path, tmp_path, algorithm="random")
    assert stability(blobs(50, 2)[0], 2, settings).in_words() == ""


def test_far_groups_separate_better_than_near_ones_and_one_group_not_at_all():
    far, near = (separation(*blobs(200, 4, spread=spread)) for spread in (0.1, 2.0))
    assert far.silhouette > near.silhouette
    assert far.davies_bouldin < near.davies_bouldin
    assert separation(blobs(50, 1)[0], np.zeros(50, dtype=int)) == (None, None)
