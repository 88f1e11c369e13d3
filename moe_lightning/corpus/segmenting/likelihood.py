"""The likeliest division of a transcript among the pieces of its recording.

Log-likelihood ratios decide: how much likelier are these words given the piece than given silence? Words that are not
said there lower the sum, so the text of a piece begins and ends where the speech does. A model that writes the piece
badly still tells its words from those of the next one.
"""

from collections.abc import Sequence
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.corpus.segmenting.transcript import Borders, Word
from moe_lightning.data.audio import SAMPLE_RATE
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.tokens import MAX_TOKENS
from moe_lightning.models.backbones.whisper import WhisperBackbone

PRICE_OF_A_WORD = 3.0
"""Nats for a word of the transcript that no piece gets: nearly all transcripts are complete."""
MOST_FOR_A_GAP = 30.0
"""Nats for any number of such words in a row."""
PRICE_OF_A_PIECE = 5.0
"""Nats for a piece without words: it has speech."""
LEAST_NULL = -7.0
"""Log-probability of any token given silence, at least: between two tiny probabilities the ratio means nothing."""
_MOST_KEPT = 50
"""Divisions that the search goes on with."""
_MOST_TEXT = MAX_TOKENS - 8
"""Tokens beside the prompt."""


class Share(NamedTuple):
    """What a piece gets of the transcript."""

    first: int
    """Number of its first word."""
    behind: int
    """Number of the first word after it; equal to ``first`` if it gets none."""
    ratio: float = 0.0
    """Log-likelihood ratio of its words and its end, nats."""
    num_tokens: int = 0
    unsaid: float = 0.0
    """Largest shortfall of tokens in a row against a quarter of the mean gain of a token, nats: given speech that does
    not hold them, words are as likely as given silence.
    """


class Scores(NamedTuple):
    """Possible texts of a piece."""

    borders: Borders
    shares: dict[tuple[int, int], Share]
    """By the places of their beginning and end in the borders."""


class Scorer:
    """Scores of texts for pieces.

    Args:
        text: The whole transcript.
        begins_large: The model writes sentences with a capital letter: so begins a text without any case, too.
    """

    def __init__(
        self,
        backbone: WhisperBackbone,
        text: str,
        words: Sequence[Word],
        language: str | None,
        *,
        begins_large: bool = True,
    ):
        self._backbone, self._language = backbone, language
        is_plain = text.islower() or text.isupper()
        self._is_capital = is_plain and begins_large
        text = text.lower() if is_plain else text  # no model writes a text in capitals
        self._words = [backbone.tokens.writable(text[word.start : word.end]) for word in words]
        glued = [bool(number) and words[number - 1].end == word.start for number, word in enumerate(words)]
        self._gaps = ["" if is_glued else " " for is_glued in glued]
        seconds = backbone.window or 1.0
        self._silence = encoded(backbone, torch.zeros(round(seconds * SAMPLE_RATE)))

    def __call__(self, frames: Frames, borders: Borders) -> Scores:
        """Scores of one piece.

        Args:
            frames: Of the piece, one row.
        """
        backbone, (starts, ends) = self._backbone, borders
        rows = [self._tokens(start, ends[-1]) for start in starts]
        texts = [tokens for tokens, _ in rows]
        shares: dict[tuple[int, int], Share] = {}
        if not any(texts):
            return Scores(borders, shares)
        said_SN, ending_SN = backbone.prefix_log_probs(frames.repeated(len(texts)), texts, self._language)
        null_SN, _ = backbone.prefix_log_probs(self._silence.repeated(len(texts)), texts, self._language)
        floored_SN = F.pad(null_SN.diff(dim=1).clamp(min=LEAST_NULL).cumsum(dim=1), (1, 0))
        gained_SN = np.asarray((said_SN - null_SN).cpu(), np.float64)
        ratio_SN = np.asarray((said_SN - floored_SN + ending_SN).cpu(), np.float64)
        for row, (start, (_, num_tokens)) in enumerate(zip(starts, rows, strict=True)):
            for column, end in enumerate(ends):
                if end > start and (count := num_tokens.get(end, 0)):
                    unsaid = _most_unsaid(gained_SN[row, : count + 1])
                    shares[row, column] = Share(start, end, float(ratio_SN[row, count]), count, unsaid)
        return Scores(borders, shares)

    def _tokens(self, start: int, end: int) -> tuple[list[int], dict[int, int]]:
        """Tokens of the words from start to end, and by the number of each later word those before it."""
        text, ends = "", {}
        for number in range(start, end):
            text = (text + self._gaps[number] + self._words[number]).lstrip()
            ends[number + 1] = len(text)
        if self._is_capital:
            text = text[:1].upper() + text[1:]
        tokens, behind = self._backbone.tokens.token_ends(text)
        count_of = {place: count + 1 for count, place in enumerate(behind) if place > 0}
        kept = {number: count_of[place] for number, place in ends.items() if 0 < count_of.get(place, 0) <= _MOST_TEXT}
        return tokens[:_MOST_TEXT], kept


def _most_unsaid(gained_N: np.ndarray) -> float:
    shortfall_N = gained_N[-1] / 4 * np.linspace(0, 1, len(gained_N)) - gained_N
    return float((shortfall_N - np.minimum.accumulate(shortfall_N)).max())


def likeliest_shares(scores: Sequence[Scores], num_words: int) -> list[Share]:
    """The division of a transcript's words among its pieces, in order, with the largest sum of ratios less prices."""
    best: dict[int, tuple[float, list[Any]]] = {
        0: (0.0, [])
    }  # by the number of words used: value, and the shares so far
    for piece in scores:
        best = _with(piece, best)
    ended = [(value - _price(num_words - used), shares) for used, (value, shares) in best.items()]
    return _listed(max(ended, key=lambda one: one[0])[1])


def _with(piece: Scores, best: dict[int, tuple[float, list[Any]]]) -> dict[int, tuple[float, list[Any]]]:
    """The best divisions up to this piece, by the number of words used."""
    found: dict[int, tuple[float, list[Any]]] = {}

    def offer(used: int, value: float, shares: list[Any]) -> None:
        if used not in found or value > found[used][0]:
            found[used] = value, shares

    for used, (value, shares) in best.items():
        offer(used, value - PRICE_OF_A_PIECE, [shares, Share(used, used)])
    for row, start in enumerate(piece.borders.starts):
        before = [(value - _price(start - used), shares) for used, (value, shares) in best.items() if used <= start]
        if not before:
            continue
        value, shares = max(before, key=lambda one: one[0])
        for column, end in enumerate(piece.borders.ends):
            if (share := piece.shares.get((row, column))) is not None:
                offer(end, value + share.ratio, [shares, share])
    return dict(nlargest(_MOST_KEPT, found.items(), key=lambda one: one[1][0]))


def _price(num_words: int) -> float:
    return min(num_words * PRICE_OF_A_WORD, MOST_FOR_A_GAP)


def _listed(shares: list[Any]) -> list[Share]:
    found = []
    while shares:
        shares, share = shares
        found.append(share)
    return found[::-1]


def encoded(backbone: WhisperBackbone, waveform_L: Tensor, window: float | None = None) -> Frames:
    """Encoder frames of one waveform."""
    waveform_L = waveform_L.to(backbone.model.device)
    num_samples_1 = torch.tensor([len(waveform_L)], device=waveform_L.device)
    with torch.no_grad():
        return backbone.encode(backbone.features(waveform_L[None], num_samples_1, window))
