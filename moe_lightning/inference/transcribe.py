"""Text of audio files, by a finished run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from moe_lightning.backbone.log_mel import SAMPLE_RATE, WINDOW_SECONDS
from moe_lightning.corpus.audio import read_file
from moe_lightning.corpus.batches import pad_waveforms
from moe_lightning.moe.model import MixtureASR

PARTS_AT_ONCE = 8
SEARCH_SECONDS = 5.0
"""How far back from the window's end the quietest place to cut is looked for."""


class Transcript(NamedTuple):
    """What was said in a file, and who was asked."""

    audio_file: Path
    text: str
    expert: int
    """The likeliest expert of its first part."""


def transcribe_files(
    mixture: MixtureASR, audio_files: Sequence[Path], language: str | None = None
) -> Iterator[Transcript]:
    """Transcribe files of any format, rate and length, one after another.

    Raises:
        InputError: A file cannot be read.
    """
    for audio_file in audio_files:
        parts = [torch.from_numpy(part_L) for part_L in cut(read_file(audio_file))]
        texts: list[str] = []
        experts: list[int] = []
        for start in range(0, len(parts), PARTS_AT_ONCE):
            waveforms = pad_waveforms(parts[start : start + PARTS_AT_ONCE])
            waveforms_BL, num_samples_B = (part.to(mixture.device) for part in waveforms)
            embeddings_BD, base = mixture.listen(waveforms_BL, num_samples_B)
            languages = [language] * len(waveforms_BL)
            texts += mixture.transcribe(waveforms_BL, num_samples_B, languages, embeddings_BD, base)
            experts += mixture.route(embeddings_BD).experts_BK[:, 0].tolist()
        yield Transcript(audio_file, " ".join(text for text in texts if text), experts[0])


def cut(waveform_L: np.ndarray) -> list[np.ndarray]:
    """Parts of at most 30 s, cut at the quietest tenth of a second near each window's end."""
    window, tenth = WINDOW_SECONDS * SAMPLE_RATE, SAMPLE_RATE // 10
    parts = []
    while len(waveform_L) > window:
        start = window - int(SEARCH_SECONDS * SAMPLE_RATE)
        energy = np.square(waveform_L[start:window]).reshape(-1, tenth).sum(axis=1)
        end = start + int(energy.argmin()) * tenth + tenth // 2
        parts.append(waveform_L[:end])
        waveform_L = waveform_L[end:]
    return [*parts, waveform_L]
