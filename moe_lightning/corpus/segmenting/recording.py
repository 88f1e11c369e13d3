"""One long recording: its pieces with their texts, and what could not be aligned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from moe_lightning.corpus.segmenting.likelihood import Scorer, Share, encoded, likeliest_shares
from moe_lightning.corpus.segmenting.pauses import pieces_of
from moe_lightning.corpus.segmenting.transcript import letters, likely_borders, most_unmatched, words_of
from moe_lightning.data.audio import SAMPLE_RATE
from moe_lightning.models.backbones.activity import is_silent, speech_probs
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.whisper import WhisperBackbone

LEAST_RATIO = 0.5
"""Nats per token by which a text must be likelier given its piece than given silence."""
MOST_UNSAID = 12.0
"""Nats by which words in a row may fall short, see `Share`. In trials on four languages, words that were said reached
9.7, four sentences that were not 26.9 and more.
"""
FEWEST_LETTERS = 20
"""Letters in a row that the model may hear and the text may lack."""
MOST_LETTERS = 0.1
"""The same for a long text, as a share of its letters."""


@dataclass(frozen=True)
class Segment:
    """A piece with its text."""

    start: float
    """Seconds."""
    duration: float
    text: str


@dataclass(frozen=True)
class Unaligned:
    """A stretch of the recording, or of its transcript, that is left out."""

    start: float
    end: float
    reason: str


@dataclass(frozen=True)
class Segmented:
    """Result for a recording."""

    segments: list[Segment]
    unaligned: list[Unaligned]


def segment_recording(
    backbone: WhisperBackbone, waveform_L: np.ndarray, text: str, language: str | None = None
) -> Segmented:
    """Cut a recording at its pauses, and divide its transcript among the pieces.

    Args:
        waveform_L: Float32, 16 kHz.
        text: The whole transcript.
        language: Its code; None lets a multilingual model detect it in the first pieces.
    """
    pieces = pieces_of(waveform_L)
    parts = [waveform_L[round(one.start * SAMPLE_RATE) : round(one.end * SAMPLE_RATE)] for one in pieces]
    language = language or _detected(backbone, parts)
    heard = [_heard(backbone, part_L, language) for part_L in parts]
    words = words_of(text, language)
    borders = likely_borders(text, words, heard)
    scorer = Scorer(backbone, text, words, language, begins_large=not "".join(heard).islower())
    scores = [scorer(_frames(backbone, part_L), one) for part_L, one in zip(parts, borders, strict=True)]
    shares = likeliest_shares(scores, len(words))
    texts = [text[words[one.first].start : words[one.behind - 1].end] if one.num_tokens else "" for one in shares]
    segments, unaligned = [], []
    for piece, share, said, written in zip(pieces, shares, heard, texts, strict=True):
        fault = _fault(share, said, written)
        if fault is None:
            segments.append(Segment(piece.start, piece.end - piece.start, written))
        else:
            unaligned.append(Unaligned(piece.start, piece.end, fault))
    for place, words_left in _gaps(shares, len(words)):
        left = text[words[words_left.start].start : words[words_left.stop - 1].end]
        at = pieces[min(place, len(pieces) - 1)].start if pieces else 0.0
        unaligned.append(Unaligned(at, at, f"no piece says {_short(left)}"))
    return Segmented(segments, unaligned)


def _fault(share: Share, heard: str, text: str) -> str | None:
    """Why a piece is left out; None if it is taken."""
    if not share.num_tokens:
        return f"the transcript has no words for it; the model hears {_short(heard)}" if heard else "no words in it"
    ratio = share.ratio / share.num_tokens
    if ratio < LEAST_RATIO:
        return f"{_short(text)} fits it hardly better than silence; the model hears {_short(heard)}"
    if share.unsaid > MOST_UNSAID:
        return f"some of {_short(text)} is not said there; the model hears {_short(heard)}"
    missing = most_unmatched(letters(text), letters(heard))
    if missing > max(FEWEST_LETTERS, MOST_LETTERS * len(letters(text))):
        return f"its text {_short(text)} lacks about {missing} letters in a row; the model hears {_short(heard)}"
    return None


def _gaps(shares: Sequence[Share], num_words: int) -> Iterator[tuple[int, range]]:
    """Words that no piece got, with the number of the next piece."""
    borders = [0, *(place for share in shares for place in (share.first, share.behind)), num_words]
    for number, (behind, first) in enumerate(pairwise(borders)):
        if number % 2 == 0 and first > behind:
            yield number // 2, range(behind, first)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}")


def _detected(backbone: WhisperBackbone, parts: Sequence[np.ndarray]) -> str | None:
    """The language of the piece with the surest detection among the first three."""
    if not backbone.detects_languages:
        return backbone.only_language
    found = [backbone.detect_languages(_frames(backbone, part_L, backbone.own_window))[0] for part_L in parts[:3]]
    return max(found, key=lambda one: one.probability).language if found else None


def _frames(backbone: WhisperBackbone, part_L: np.ndarray, window: float | None = None) -> Frames:
    return encoded(backbone, torch.from_numpy(part_L), window)


def _heard(backbone: WhisperBackbone, part_L: np.ndarray, language: str | None) -> str:
    waveform_1L = torch.from_numpy(part_L)[None].to(backbone.model.device)
    speech_1 = speech_probs(waveform_1L, torch.tensor([len(part_L)], device=waveform_1L.device))
    if is_silent(speech_1).item():
        return ""
    return backbone.decode(_frames(backbone, part_L), [language], options=DecodeOptions(speech_B=speech_1)).texts[0]
