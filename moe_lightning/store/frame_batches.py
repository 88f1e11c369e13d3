"""Batches of stored frames, for a gate with attention."""

from collections.abc import Sequence

import numpy as np
import torch

from moe_lightning.backbone.speech import Frames
from moe_lightning.errors import InputError
from moe_lightning.store.embedding_store import EmbeddingStore


def stored_frames(store: EmbeddingStore, ids: Sequence[str]) -> Frames:
    """Frames of utterances, padded with zeros, in their stored precision.

    Raises:
        InputError: The store has no frames for an utterance.
    """
    frames = [torch.from_numpy(np.array(store.frames_of(id_))) for id_ in ids]
    values_BTD = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    return Frames(values_BTD, torch.tensor([len(frames_TD) for frames_TD in frames]))


def require_frames(store: EmbeddingStore) -> None:
    """Raise an InputError if a store has no frames, before any batch is made."""
    if not store.has_frames:
        raise InputError(
            f"the store {store.folder} has no encoder frames, which gate attentive reads under gate_input cached; run"
            " `moe-lightning embed --store frames` in another --run-dir, or take gate_input live"
        )
