"""Pool stored frames anew if the store's own pooling is not the requested one."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from moe_lightning.data.embedding_store import EmbeddingStore, StoreInfo
from moe_lightning.errors import InputError
from moe_lightning.settings.embedding import Pooling


class Vectors(NamedTuple):
    """One vector per utterance, and the matching store info."""

    embeddings: np.ndarray
    """(N, D) float32; (N, T, D) for a folder with one array of frames per utterance."""
    info: StoreInfo | None


def stored_vectors(store: EmbeddingStore, pooling: str, pool_stats: str | None) -> Vectors:
    """Vectors of a store; if it keeps frames and has another pooling, pooled anew from the frames.

    Args:
        pooling: ``flatten`` joins all frames; otherwise ``pool_stats`` decides.
        pool_stats: ``mean``, ``mean+std``, or None for all in the store.

    Raises:
        InputError: ``flatten`` with different numbers of frames.
    """
    wanted: Pooling | None = "flatten" if pooling == "flatten" else "mean+std" if pool_stats == "mean+std" else None
    if not (wanted and store.info and store.has_frames and store.info.pooling != wanted):
        return Vectors(store.embeddings_ND, store.info)
    return Vectors(_pool_frames(store, wanted), replace(store.info, pooling=wanted))


def _pool_frames(store: EmbeddingStore, pooling: Pooling) -> np.ndarray:
    """One utterance after another, so that only one utterance's frames are in memory."""
    lengths = {entry.num_frames for entry in store.entries}
    if pooling == "flatten" and len(lengths) > 1:
        raise InputError("--pooling flatten needs as many frames of every utterance; embed with --pooling flatten")
    return np.stack([_pooled(store.frames_of(id_), pooling) for id_ in store.ids])


def _pooled(frames_TD: np.ndarray, pooling: str) -> np.ndarray:
    frames_TD = frames_TD.astype(np.float32)
    if pooling == "flatten":
        return frames_TD.ravel()
    return np.concatenate([frames_TD.mean(axis=0), frames_TD.std(axis=0)])
