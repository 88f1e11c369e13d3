"""What the data modules hand to the stages that run a model."""

from typing import Any, NamedTuple

from torch import Tensor

from moe_lightning.corpus.batches import PaddedWaveforms


class AudioBatch(NamedTuple):
    """Waveforms of a batch and the utterances that they are of."""

    ids: list[str]
    waveforms: PaddedWaveforms
    texts: list[str]
    languages: list[str | None]
    """Language of each utterance, None where the manifest does not say."""


class EmbeddedBatch(NamedTuple):
    """What an encoder makes of a batch."""

    embeddings_BD: Tensor
    """Pooled frames or what else is one vector an utterance, float32."""
    frames_BTD: Tensor
    num_frames_B: Tensor
    """Real frames of each utterance, int64."""


class SpeechBatch(NamedTuple):
    """Utterances with their transcripts and what the clustering says of them."""

    ids: list[str]
    waveforms_BL: Tensor
    """16 kHz mono, zeros behind each end."""
    num_samples_B: Tensor
    """Real samples of each utterance, int64."""
    texts: list[str]
    languages: list[str | None]
    """Language of each utterance, None where the manifest does not say."""
    soft_labels_BE: Tensor
    embeddings_BD: Tensor
    """Pooled embeddings of the frozen base encoder."""
    frames_BTD: Tensor | None = None
    """Its frames, where a gate reads cached ones."""
    num_frames_B: Tensor | None = None
    """Real ones of each utterance, int64."""


def only(batch: SpeechBatch, rows: list[int]) -> SpeechBatch:
    """Some utterances of a batch; waveforms lose the padding that none of them needs."""
    parts: Any = [part[rows] if isinstance(part, Tensor) else part and [part[row] for row in rows] for part in batch]
    kept = SpeechBatch(*parts)
    longest = int(kept.num_samples_B.max()) if rows else 0
    return kept._replace(waveforms_BL=kept.waveforms_BL[:, :longest])


class GateBatch(NamedTuple):
    """Embeddings and the soft labels that a gate is to give them."""

    embeddings_BD: Tensor
    soft_labels_BE: Tensor
    frames_BTD: Tensor | None = None
    """Encoder frames, where the gate reads them."""
    num_frames_B: Tensor | None = None
    """Real ones of each utterance, int64."""
