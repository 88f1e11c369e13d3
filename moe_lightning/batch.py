"""Batches that the data modules give to the stages."""

from typing import Any, NamedTuple

from torch import Tensor

from moe_lightning.corpus.batches import PaddedWaveforms


class AudioBatch(NamedTuple):
    """Utterance ids, padded waveforms, transcripts and languages."""

    ids: list[str]
    waveforms: PaddedWaveforms
    texts: list[str]
    languages: list[str | None]
    """Language of each utterance, None if the manifest names none."""


class EmbeddedBatch(NamedTuple):
    """Encoder output for a batch."""

    embeddings_BD: Tensor
    """One vector per utterance, for example pooled frames; float32."""
    frames_BTD: Tensor
    num_frames_B: Tensor
    """Frames of each utterance without padding, int64."""


class SpeechBatch(NamedTuple):
    """Utterances with transcripts, soft labels and embeddings."""

    ids: list[str]
    waveforms_BL: Tensor
    """16 kHz mono, padded with zeros at the end."""
    num_samples_B: Tensor
    """Samples of each utterance without padding, int64."""
    texts: list[str]
    languages: list[str | None]
    """Language of each utterance, None if the manifest names none."""
    soft_labels_BE: Tensor
    embeddings_BD: Tensor
    """Pooled embeddings from the frozen base encoder."""
    frames_BTD: Tensor | None = None
    """Frames from the same encoder, if the gate reads stored frames."""
    num_frames_B: Tensor | None = None
    """Frames of each utterance without padding, int64."""


def only(batch: SpeechBatch, rows: list[int]) -> SpeechBatch:
    """Given rows of a batch; padding is cut to the longest waveform among them."""
    parts: Any = [part[rows] if isinstance(part, Tensor) else part and [part[row] for row in rows] for part in batch]
    kept = SpeechBatch(*parts)
    longest = int(kept.num_samples_B.max()) if rows else 0
    return kept._replace(waveforms_BL=kept.waveforms_BL[:, :longest])


class GateBatch(NamedTuple):
    """Embeddings and their soft labels, the targets for the gate."""

    embeddings_BD: Tensor
    soft_labels_BE: Tensor
    frames_BTD: Tensor | None = None
    """Encoder frames, if the gate reads them."""
    num_frames_B: Tensor | None = None
    """Frames of each utterance without padding, int64."""
