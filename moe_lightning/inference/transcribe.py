"""Transcribe audio files with a finished run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from moe_lightning.data.audio import read_file
from moe_lightning.data.batches import PaddedWaveforms, pad_waveforms
from moe_lightning.models.backbones.activity import is_silent, quietest, speech_probs
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions
from moe_lightning.models.backbones.log_mel import SAMPLE_RATE, WINDOW_SECONDS
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.routing import logits_by_speaker

PARTS_AT_ONCE = 8
SEARCH_SECONDS = 5.0
"""Search range for the quietest cut, back from the window's end."""


class Transcript(NamedTuple):
    """Text of an audio file, with the gate's decision."""

    audio_file: Path
    text: str
    language: str | None
    """Language code, as given or detected; None if the model does not report it, or nobody speaks."""
    confidence: float
    """Mean token probability, 0 to 1: exponential of the mean log-probability, averaged over parts of at most 30 s."""
    gate_probs: list[float]
    """Probability of each expert, averaged over the parts; sums to 1."""
    experts: dict[int, float]
    """Experts of the first part with text, with their weights, best first; weights sum to 1."""

    @property
    def expert(self) -> int:
        """Expert with the largest weight in the first part with text."""
        return next(iter(self.experts))


def transcribe_file(
    mixture: MixtureASR,
    audio_file: Path,
    language: str | None = None,
    speaker_1E: Tensor | None = None,
    options: DecodeOptions = DECODE,
) -> Transcript:
    """Transcribe a file with any format, rate and length.

    Args:
        language: Code of its language; None lets a multilingual model detect it, where the file surely has speech
            first.
        speaker_1E: Gate logits of its speaker (`read_speaker`); None lets the gate read the file alone.
        options: Beams, and the guard against silence and loops.

    Raises:
        InputError: The file cannot be read.
    """
    texts: list[str] = []
    scores, logits = [], []
    spoken = language
    for waveforms_BL, num_samples_B in _parts(audio_file, mixture.device):
        own_BE, base = mixture.audio_logits(waveforms_BL, num_samples_B)
        logits_BE = own_BE if speaker_1E is None else speaker_1E.expand_as(own_BE)
        speech_B = speech_probs(waveforms_BL, num_samples_B)
        best = int(speech_B.argmax())  # silence has no language
        likeliest = slice(best, best + 1)
        part_language = spoken or mixture.experts.detect_language(waveforms_BL[likeliest], num_samples_B[likeliest])
        if not (options.guard and is_silent(speech_B[likeliest])):
            spoken = part_language
        languages = [part_language] * len(waveforms_BL)
        of_parts = replace(options, speech_B=speech_B if options.guard else None)
        found = mixture.hypotheses(waveforms_BL, num_samples_B, languages, logits_BE, base, of_parts)
        texts += found.texts
        scores.append(found.scores_B)
        logits.append(logits_BE)
    logits_NE = torch.cat(logits)
    weights_NK, experts_NK = mixture.route(logits_NE)
    text = " ".join(text for text in texts if text)
    part = next((number for number, one in enumerate(texts) if one), 0)
    return Transcript(
        audio_file,
        text=text,
        language=spoken if text else language,
        confidence=float(torch.cat(scores).exp().mean()),
        gate_probs=mixture.probs(logits_NE).mean(dim=0).tolist(),
        experts=dict(zip(experts_NK[part].tolist(), weights_NK[part].tolist(), strict=True)),
    )


def read_speaker(mixture: MixtureASR, audio_files: Sequence[Path]) -> Tensor:
    """Gate logits after reading all files of one person, (1, E).

    Raises:
        InputError: A file cannot be read.
    """
    logits_NE = torch.cat(
        [mixture.audio_logits(*part)[0] for audio_file in audio_files for part in _parts(audio_file, mixture.device)]
    )
    return logits_by_speaker(logits_NE, ["one"] * len(logits_NE))[:1]


def _parts(audio_file: Path, device: torch.device) -> Iterator[PaddedWaveforms]:
    """Batches of a file's parts, at most 30 s each."""
    parts = [torch.from_numpy(part_L) for part_L in cut(read_file(audio_file))]
    for start in range(0, len(parts), PARTS_AT_ONCE):
        waveforms = pad_waveforms(parts[start : start + PARTS_AT_ONCE])
        yield PaddedWaveforms(*(part.to(device) for part in waveforms))


def cut(waveform_L: np.ndarray) -> list[np.ndarray]:
    """Parts of at most 30 s, cut at the quietest tenth of a second in the last 5 s of each window."""
    window = WINDOW_SECONDS * SAMPLE_RATE
    start = window - int(SEARCH_SECONDS * SAMPLE_RATE)
    parts = []
    while len(waveform_L) > window:
        end = start + quietest(waveform_L[start:window])
        parts.append(waveform_L[:end])
        waveform_L = waveform_L[end:]
    return [*parts, waveform_L]
