"""Embeddings whose populations are known."""

from pathlib import Path

import numpy as np
import pytest

from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry, shard_name

SPLIT_OF = ("train", "train", "train", "dev", "test")


def blobs(num_utterances: int, num_groups: int, dim: int = 20, spread: float = 0.3, seed: int = 0):
    """Gaussian groups around random centres: (embeddings_ND float32, groups_N)."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(num_groups, dim))
    groups_N = np.arange(num_utterances) % num_groups
    return (centres[groups_N] + spread * random.normal(size=(num_utterances, dim))).astype(np.float32), groups_N


def write_store(folder: Path, embeddings_ND: np.ndarray, splits: bool = True) -> Path:
    """A store of these embeddings, every fourth and fifth utterance of dev and test."""
    entries = tuple(
        StoreEntry(f"u{row:04d}", f"s{row % 7}", f"{row}.wav", f"{row}.wav", shard_name(0), row, SPLIT_OF[row % 5])
        for row in range(len(embeddings_ND))
    )
    EmbeddingStore(entries, embeddings_ND, None).save(folder)
    if not splits:
        mapping = folder / "mapping.json"
        mapping.write_text(mapping.read_text().replace('"split"', '"was_split"'))
    return folder


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """200 utterances of four groups far apart."""
    return write_store(tmp_path / "store", blobs(200, 4)[0])
