"""From a CTC model's frame posteriors to labels: the likeliest path, or the likeliest labels over all paths."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = -math.inf


class Labelling(NamedTuple):
    """Labels of an utterance, without repeats and blanks, and their log-probability."""

    labels: list[int]
    log_prob: float
    """Nats; of the path (`best_path`), or of all paths that collapse to the labels (`beam_search`)."""


class _Ending(NamedTuple):
    """Log-probability of all paths that collapse to a prefix, by their last frame."""

    blank: float
    label: float

    @property
    def total(self) -> float:
        return log_add(self.blank, self.label)


def labelling(log_probs_TV: Tensor, blank: int, num_beams: int) -> Labelling:
    """The likeliest path for one beam, beam search for more."""
    return best_path(log_probs_TV, blank) if num_beams == 1 else beam_search(log_probs_TV, blank, num_beams)


def best_path(log_probs_TV: Tensor, blank: int) -> Labelling:
    """The likeliest token of each frame, collapsed."""
    best_T, tokens_T = log_probs_TV.max(dim=1)
    collapsed = torch.unique_consecutive(tokens_T).tolist()
    return Labelling([token for token in collapsed if token != blank], float(best_T.sum()))


def beam_search(log_probs_TV: Tensor, blank: int, num_beams: int) -> Labelling:
    """The likeliest labels, summed over their paths.

    Prefix beam search, Hannun et al. 2014, arXiv:1408.2873, algorithm 1, without a language model. Only the
    ``num_beams + 1`` likeliest tokens of a frame extend a prefix: the others would fall out of the beam.
    """
    beams: dict[tuple[int, ...], _Ending] = {(): _Ending(0.0, NEVER)}
    num_tokens = min(num_beams + 1, log_probs_TV.shape[1])
    tokens_TK = log_probs_TV.topk(num_tokens, dim=1).indices.tolist()
    for log_probs, tokens in zip(log_probs_TV.tolist(), tokens_TK, strict=True):
        grown: dict[tuple[int, ...], _Ending] = {}
        for prefix, ending in beams.items():
            _grow(grown, prefix, ending, log_probs, [token for token in tokens if token != blank], blank)
        best = sorted(grown.items(), key=lambda item: item[1].total, reverse=True)[:num_beams]
        beams = dict(best)
    labels, ending = max(beams.items(), key=lambda item: item[1].total)
    return Labelling(list(labels), ending.total)


def _grow(
    grown: dict[tuple[int, ...], _Ending],
    prefix: tuple[int, ...],
    ending: _Ending,
    log_probs: list[float],
    tokens: list[int],
    blank: int,
) -> None:
    """Add a prefix's paths through one frame to those of the next frame."""
    last = prefix[-1] if prefix else None
    repeated = NEVER if last is None else ending.label + log_probs[last]
    _add(grown, prefix, _Ending(ending.total + log_probs[blank], repeated))
    for token in tokens:
        before = ending.blank if token == last else ending.total  # a label twice needs a blank between
        _add(grown, (*prefix, token), _Ending(NEVER, before + log_probs[token]))


def _add(grown: dict[tuple[int, ...], _Ending], prefix: tuple[int, ...], ending: _Ending) -> None:
    known = grown.get(prefix, _Ending(NEVER, NEVER))
    grown[prefix] = _Ending(log_add(known.blank, ending.blank), log_add(known.label, ending.label))


def log_add(one: float, other: float) -> float:
    """``log(exp(one) + exp(other))``."""
    low, high = min(one, other), max(one, other)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
