"""The store: numpy shards and the guide's mapping, whole or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_lightning.data import embedding_store
from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry, StoreInfo, shard_of
from tests.refusals import refuses

GUIDES_FIELDS = {"id", "contributor_id", "wav_filename", "wav_path", "embedding_path"}


def store(num_utterances: int = 5) -> EmbeddingStore:
    entries = tuple(
        StoreEntry(f"u{row}", "ann", f"{row}.wav", f"/audio/{row}.wav", *shard_of(row), ("train", "dev")[row % 2])
        for row in range(num_utterances)
    )
    embeddings_ND = np.random.default_rng(0).normal(size=(num_utterances, 4)).astype(np.float32)
    return EmbeddingStore(entries, embeddings_ND, StoreInfo("v2", "mean", 0.0))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    store().save(tmp_path)
    loaded = EmbeddingStore.load(tmp_path)
    assert loaded.entries == store().entries
    assert loaded.info == store().info
    assert loaded.ids == ("u0", "u1", "u2", "u3", "u4")
    assert loaded.splits_N.tolist() == ["train", "dev", "train", "dev", "train"]
    np.testing.assert_array_equal(loaded.embeddings_ND, store().embeddings_ND)


def test_the_mapping_has_the_guides_fields(tmp_path: Path) -> None:
    store().save(tmp_path)
    rows = json.loads((tmp_path / "mapping.json").read_text())
    assert set(rows[0]) >= GUIDES_FIELDS
    assert {file.name for file in tmp_path.iterdir()} == {
        "mapping.json",
        "store.json",
        "embeddings_00000.npy",
        "embeddings_00000.json",
    }


def test_a_large_store_is_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_store, "ROWS_PER_SHARD", 2)
    store().save(tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    np.testing.assert_array_equal(EmbeddingStore.load(tmp_path).embeddings_ND, store().embeddings_ND)


def test_rows_are_given_in_the_order_asked_for_and_a_missing_one_is_named() -> None:
    np.testing.assert_array_equal(store().of(["u3", "u0"]), store().embeddings_ND[[3, 0]])
    with refuses("embeddings.missing", "z"):
        store().of(["u0", "z"])


def test_the_guides_own_layout_of_one_file_an_utterance_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", store().embeddings_ND[:1])
    rows = [{"id": name, "embedding_path": f"{name}.npy"} for name in ("a", "b")]
    (tmp_path / "mapping.json").write_text(json.dumps(rows))
    loaded = EmbeddingStore.load(tmp_path)
    assert (loaded.ids, loaded.info, loaded.splits_N.tolist()) == (("a", "b"), None, ["train", "train"])
    assert loaded.embeddings_ND.shape == (2, 4)


def test_a_store_that_was_never_finished_names_the_command(tmp_path: Path) -> None:
    store().save(tmp_path)
    (tmp_path / "mapping.json").unlink()  # it is written last
    with refuses("file.missing", "mapping.json"):
        EmbeddingStore.load(tmp_path)


def test_a_shard_that_is_missing_cut_off_short_or_not_finite_is_refused(tmp_path: Path) -> None:
    store().save(tmp_path)
    shard = tmp_path / "embeddings_00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with refuses("file.unreadable", "embeddings_00000.npy"):
        EmbeddingStore.load(tmp_path)
    np.save(shard, store().embeddings_ND[:3])
    with refuses("embeddings.shape", "u3"):
        EmbeddingStore.load(tmp_path)
    np.save(shard, np.full((5, 4), np.nan))
    with refuses("embeddings.not-finite", "embeddings_00000.npy"):
        EmbeddingStore.load(tmp_path)
    shard.unlink()
    with refuses("file.missing", "embeddings_00000.npy"):
        EmbeddingStore.load(tmp_path)


def test_an_array_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    store().save(tmp_path)
    np.save(tmp_path / "embeddings_00000.npy", np.array([print] * 5, dtype=object), allow_pickle=True)
    with refuses("file.unreadable", "embeddings_00000.npy"):
        EmbeddingStore.load(tmp_path)


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array(1.0)], ids=["texts", "one number"])
def test_a_file_that_is_no_array_of_numbers_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    store().save(tmp_path)
    np.save(tmp_path / "embeddings_00000.npy", array)
    with refuses("file.malformed", "embeddings_00000.npy"):
        EmbeddingStore.load(tmp_path)


@pytest.mark.parametrize(
    ("mapping", "refusal"),
    [
        ("{", ("file.malformed", "mapping.json")),
        ("[]", ("file.malformed", "mapping.json")),
        ('{"id": "a"}', ("file.malformed", "mapping.json")),
        ('[{"id": "a"}]', ("file.malformed", "mapping.json")),
        ('[{"id": 1, "embedding_path": "a.npy"}]', ("file.malformed", "mapping.json")),
        ('[{"id": "a", "embedding_path": 1}]', ("file.malformed", "a")),
        ('[{"id": "a", "embedding_path": "a.npy", "row": "0"}]', ("file.malformed", "a")),
    ],
)
def test_a_broken_mapping_is_refused(tmp_path: Path, mapping: str, refusal: tuple[str, ...]) -> None:
    (tmp_path / "mapping.json").write_text(mapping)
    with refuses(*refusal):
        EmbeddingStore.load(tmp_path)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    entries = tuple(replace(entry, id="same") for entry in store().entries)
    EmbeddingStore(entries, store().embeddings_ND, None).save(tmp_path)
    with refuses("corpus.id-twice", "mapping.json"):
        EmbeddingStore.load(tmp_path)


def test_embeddings_of_different_sizes_are_refused(tmp_path: Path) -> None:
    for name, size in (("a", 3), ("b", 4)):
        np.save(tmp_path / f"{name}.npy", np.zeros((1, size)))
    rows = [{"id": name, "embedding_path": f"{name}.npy"} for name in ("a", "b")]
    (tmp_path / "mapping.json").write_text(json.dumps(rows))
    with refuses("embeddings.shape"):
        EmbeddingStore.load(tmp_path)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8,), (2, 8)), ((1, 8), (2, 8)), ((5, 8), (2, 5, 8)), ((1, 5, 8), (2, 5, 8))]
)
def test_a_file_of_one_utterance_is_read_whole_as_its_vector_or_its_frames(
    shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    arrays = {name: np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed, name in enumerate("ab")}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    rows = [{"id": name, "embedding_path": f"{name}.npy"} for name in arrays]
    (tmp_path / "mapping.json").write_text(json.dumps(rows))
    loaded = EmbeddingStore.load(tmp_path)
    assert loaded.embeddings_ND.shape == expected
    np.testing.assert_array_equal(loaded.embeddings_ND[1], arrays["b"].reshape(expected[1:]))


def test_two_utterances_of_one_file_need_rows_of_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 8)))
    (tmp_path / "mapping.json").write_text(json.dumps([{"id": name, "embedding_path": "a.npy"} for name in "ab"]))
    with refuses("embeddings.shared-file", "a.npy"):
        EmbeddingStore.load(tmp_path)
