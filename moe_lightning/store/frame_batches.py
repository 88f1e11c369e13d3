"""Frames of an embedding store as batches, for a gate that attends to them."""

from collections.abc import Sequence

import numpy as np
import torch

from moe_lightning.backbone.speech import Frames
from moe_lightning.errors import InputError
from moe_lightning.store.embedding_store import EmbeddingStore


def stored_frames(store: EmbeddingStore, ids: Sequence[str]) -> Frames:
    """Frames of utterances, padded with zeros; of the precision that they are stored in.

    Raises:
        InputError: The store has none of an utterance.
    """
    frames = [torch.from_numpy(np.array(store.frames_of(id_))) for id_ in ids]
    values_BTD = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    return Frames(values_BTD, torch.tensor([len(frames_TD) for frames_TD in frames]))


def require_frames(store: EmbeddingStore) -> None:
    """Raise an InputError, before any batch is made, when a store has no frames."""
    if not store.has_frames:
        raise InputError(
            f"the store {store.folder} has no encoder frames, which gate attentive reads under gate_input cached; run"
            " `moe-lightning embed --store frames` in another --run-dir, or take gate_input live"
        )
