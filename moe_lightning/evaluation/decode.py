"""Transcripts of a test split by the bare backbone and by the mixture."""

from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.batch import SpeechBatch
from moe_lightning.corpus.loader import FixedLoader
from moe_lightning.moe.model import MixtureASR
from moe_lightning.progress import progress


class Decoded(NamedTuple):
    """One test utterance."""

    id: str
    expert: int
    """Its likeliest expert."""
    backbone: str
    """Transcript of the bare backbone."""
    mixture: str


@torch.no_grad()
def decode(mixture: MixtureASR, loader: FixedLoader, device: torch.device) -> list[Decoded]:
    """Greedy transcripts of every utterance of a loader, both systems on the same batches."""
    decoded = []
    for batch in progress(loader, "evaluating"):
        decoded += _decode_batch(mixture, _to_device(batch, device))
    return decoded


def _decode_batch(mixture: MixtureASR, batch: SpeechBatch) -> list[Decoded]:
    speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
    backbone = mixture.experts.transcribe(*speech, gate_BE=None)
    texts = mixture.transcribe(*speech, embeddings_BD=batch.embeddings_BD)
    experts = mixture.route(batch.embeddings_BD).experts_BK[:, 0].tolist()
    return [Decoded(*row) for row in zip(batch.ids, experts, backbone, texts, strict=True)]


def _to_device(batch: SpeechBatch, device: torch.device) -> SpeechBatch:
    return SpeechBatch._make(part.to(device) if isinstance(part, Tensor) else part for part in batch)
