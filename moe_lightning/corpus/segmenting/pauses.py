"""Places to cut a long recording: its pauses."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from moe_lightning.data.audio import SAMPLE_RATE
from moe_lightning.models.backbones.activity import CHUNK, quietest, speech_by_chunk

LONGEST = 29.9
"""Seconds of a piece; Whisper's window, less what rounding to samples could add."""
WANTED = 10.0
"""Seconds. From here on the longest pause is taken: it is likelier between two sentences than a shorter one."""
PAUSE = 0.2
"""Seconds without speech, at least. The closure of a plosive lasts half of that."""
LONG_PAUSE = 1.0
"""Seconds; of longer pauses none is better than another."""
MARGIN = 0.3
"""Seconds kept before and after the speech of a piece."""
SPEECH = 0.35
"""Probability of speech in a chunk; Silero's own threshold for the end of speech."""


class Piece(NamedTuple):
    """A stretch of a recording, in seconds."""

    start: float
    end: float


def pieces_of(waveform_L: np.ndarray) -> list[Piece]:
    """The pieces of a recording (float32, 16 kHz) that hold speech, each of at most `LONGEST` seconds.

    A piece ends in a pause; where nobody pauses for 30 s, at the quietest tenth of a second in the last 5 s.
    """
    is_speech_T = speech_by_chunk(waveform_L) >= SPEECH
    seconds = len(waveform_L) / SAMPLE_RATE
    runs = [Piece(run.start, min(run.end, seconds)) for run in _runs(is_speech_T)]
    pieces: list[Piece] = []
    while runs:
        start = max(runs[0].start - MARGIN, pieces[-1].end if pieces else 0.0)
        end = _end(runs, start, waveform_L)
        inside = [run for run in runs if run.start < end]
        runs = [Piece(max(run.start, end), run.end) for run in runs if run.end > end]
        pieces.append(Piece(start, min(end, inside[-1].end + MARGIN)))
    return pieces


def _end(runs: list[Piece], start: float, waveform_L: np.ndarray) -> float:
    """End of the piece that begins at start."""
    if runs[-1].end - start <= LONGEST:
        return min(runs[-1].end + MARGIN, start + LONGEST, len(waveform_L) / SAMPLE_RATE)
    gaps = [Piece(one.end, two.start) for one, two in pairwise(runs)]
    cuts = [(min(gap.end - gap.start, LONG_PAUSE), _cut(gap, start)) for gap in gaps if gap.end > start]
    open_cuts = [cut for cut in cuts if cut[1] - start <= LONGEST]
    late = [cut for cut in open_cuts if cut[1] - start >= WANTED] or open_cuts
    if late:
        return max(late)[1]
    first = round((start + LONGEST - 5) * SAMPLE_RATE)
    return (first + quietest(waveform_L[first : first + 5 * SAMPLE_RATE])) / SAMPLE_RATE


def _cut(gap: Piece, start: float) -> float:
    """The middle of a pause, or the last place in it where the piece still fits."""
    return min((gap.start + gap.end) / 2, max(gap.start, start + LONGEST))


def _runs(is_speech_T: np.ndarray) -> list[Piece]:
    """Stretches of speech, with no shorter pause than `PAUSE` between them."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_speech_T.astype(np.int8), [0]))))
    runs: list[Piece] = []
    for first, behind in (edges.reshape(-1, 2) * CHUNK / SAMPLE_RATE).tolist():
        if runs and first - runs[-1].end < PAUSE:
            runs[-1] = Piece(runs[-1].start, behind)
        else:
            runs.append(Piece(first, behind))
    return runs
