"""Datasets and padded batches of utterances, for the LightningDataModules."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from moe_lightning.corpus.audio import read_audio
from moe_lightning.corpus.augmentation import Augmentation
from moe_lightning.corpus.batch_plan import BatchPlan, padding_share
from moe_lightning.corpus.utterance import Utterance

__all__ = [
    "AudioDataset",
    "AudioItem",
    "BatchPlan",
    "PaddedWaveforms",
    "pad_waveforms",
    "padding_share",
]


class AudioItem(NamedTuple):
    """An utterance with its audio."""

    row: int
    """Row in the dataset, equal to the row in the manifest."""
    id: str
    waveform_L: Tensor
    """float32, 16 kHz mono."""
    text: str
    language: str | None


class PaddedWaveforms(NamedTuple):
    """Waveforms of a batch, padded with zeros at the end."""

    waveforms_BL: Tensor
    """float32, 16 kHz; L is the longest length."""
    num_samples_B: Tensor
    """Samples of each without padding, int64."""


class AudioDataset(Dataset[AudioItem]):
    """Utterances in manifest order; audio is read on access.

    Args:
        augmentation: Changes the audio, differently in each `epoch`; None leaves it unchanged.
        rows: Rows in the whole split, for a dataset with a part of it: the augmentation depends on them.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        augmentation: Augmentation | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        self.utterances = utterances
        self.augmentation = augmentation
        self.rows = rows
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, row: int) -> AudioItem:
        """Read an utterance's audio.

        Raises:
            InputError: The file cannot be read; the message names it.
        """
        utterance = self.utterances[row]
        waveform_L = read_audio(utterance)
        if self.augmentation:
            waveform_L = self.augmentation(waveform_L, self.epoch, self.rows[row] if self.rows else row)
        return AudioItem(row, utterance.id, torch.from_numpy(waveform_L), utterance.text, utterance.language)


def pad_waveforms(waveforms: Sequence[Tensor]) -> PaddedWaveforms:
    """Stack waveforms of shape (L_i,) into one batch."""
    waveforms_BL = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
    return PaddedWaveforms(waveforms_BL, torch.tensor([len(waveform_L) for waveform_L in waveforms]))
