"""Labels of the clustering: checked when made, the same after a trip to disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.errors import InputError
from tests.refusals import refuses

IDS = ("a", "b", "ü/c d")


def soft() -> SoftLabels:
    return SoftLabels(IDS, np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]], dtype=np.float32))


def test_soft_labels_are_written_in_the_guides_form_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "clustered" / "Spectral_soft.json"
    soft().save(file)
    assert json.loads(file.read_text())[0] == {"id": "a", "probs": [0.25, 0.75]}
    loaded = SoftLabels.load(file)
    assert loaded.ids == IDS
    assert loaded.probs_NE.dtype == np.float32
    np.testing.assert_array_equal(loaded.probs_NE, soft().probs_NE)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_hard_labels_are_written_in_the_guides_form_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "HDBSCAN.json"
    HardLabels(IDS, np.array([0, -1, 3])).save(file)
    assert json.loads(file.read_text())[1] == {"id": "b", "label": -1}
    loaded = HardLabels.load(file)
    assert (loaded.ids, loaded.labels_N.tolist()) == (IDS, [0, -1, 3])


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_distribution_survives_the_trip_to_disk(num_utterances: int, num_experts: int, seed: int) -> None:
    import tempfile

    rng = np.random.default_rng(seed)
    probs_NE = rng.dirichlet(np.full(num_experts, 0.1), size=num_utterances).astype(np.float32)
    labels = SoftLabels(tuple(f"u{row}" for row in range(num_utterances)), probs_NE)
    with tempfile.TemporaryDirectory() as folder:
        labels.save(Path(folder) / "soft.json")
        np.testing.assert_allclose(SoftLabels.load(Path(folder) / "soft.json").probs_NE, probs_NE, atol=1e-6)


def test_rows_are_given_in_the_order_asked_for() -> None:
    np.testing.assert_array_equal(soft().of(["ü/c d", "a"]), [[0.5, 0.5], [0.25, 0.75]])
    assert "b" in soft()
    assert "z" not in soft()
    assert soft().num_experts == 2


def test_an_utterance_without_a_soft_label_is_named() -> None:
    with refuses("labels.missing", "z"):
        soft().of(["a", "z"])


@pytest.mark.parametrize(
    ("probs", "refusal"),
    [
        ([[0.5, 0.4], [1, 0], [1, 0]], ("labels.probabilities", "a")),
        ([[1, 0], [1.5, -0.5], [1, 0]], ("labels.probabilities", "b")),
        ([[1, 0], [1, 0], [float("nan"), 1]], ("labels.probabilities", "ü/c d")),
        ([[1, 0], [1, 0]], ("labels.shape",)),
        ([1, 0, 0], ("labels.shape",)),
        ([[], [], []], ("labels.shape",)),
    ],
)
def test_what_is_no_distribution_is_refused(probs: list, refusal: tuple[str, ...]) -> None:
    with refuses(*refusal):
        SoftLabels(IDS, np.array(probs, dtype=np.float32))


def test_an_id_that_comes_twice_is_named() -> None:
    for make in (lambda: SoftLabels(("a", "a"), np.eye(2)), lambda: HardLabels(("a", "a"), np.zeros(2, dtype=int))):
        with refuses("corpus.id-twice", "a"):
            make()


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for labels in (SoftLabels, HardLabels):
        with refuses("file.missing", "none.json"):
            labels.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "{",
        "{}",
        "[]",
        "[1]",
        '[{"id": 1, "probs": [1.0]}]',
        '[{"id": "a"}]',
        '[{"id": "a", "probs": 1.0}]',
        '[{"id": "a", "probs": [1.0]}, {"id": "b", "probs": [0.5, 0.5]}]',
        '[{"id": "a", "probs": ["x"]}]',
        '[{"id": "a", "probs": [null, 1.0]}]',
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, contents: str) -> None:
    (tmp_path / "soft.json").write_text(contents)
    with pytest.raises(InputError):
        SoftLabels.load(tmp_path / "soft.json")


def test_a_hard_label_that_is_no_whole_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hard.json").write_text('[{"id": "a", "label": 0.5}]')
    with refuses("labels.shape", "hard.json"):
        HardLabels.load(tmp_path / "hard.json")
