"""Alignment of hypotheses with references: hits, substitutions, deletions, insertions."""

from collections.abc import Sequence
from typing import NamedTuple

import jiwer
import numpy as np

KINDS = ("equal", "substitute", "delete", "insert")
_SIGN_OF = dict(zip(KINDS, "=SDI", strict=True))


class Pair(NamedTuple):
    """One step of an alignment."""

    kind: str
    """``=`` hit, ``S`` substitution, ``D`` deletion, ``I`` insertion."""
    reference: str
    """The spoken word; empty for ``I``."""
    hypothesis: str
    """The written word; empty for ``D``."""


class Counts(NamedTuple):
    """Alignment steps per utterance, int64."""

    hits_N: np.ndarray
    substitutions_N: np.ndarray
    deletions_N: np.ndarray
    insertions_N: np.ndarray

    @property
    def errors_N(self) -> np.ndarray:
        return self.substitutions_N + self.deletions_N + self.insertions_N

    @property
    def lengths_N(self) -> np.ndarray:
        """Words (or characters) per reference."""
        return self.hits_N + self.substitutions_N + self.deletions_N


def count_words(references: Sequence[str], hypotheses: Sequence[str]) -> Counts:
    """Word errors per utterance, by minimum edit distance (Levenshtein)."""
    return _counts(jiwer.process_words(list(references), list(hypotheses)).alignments)


def count_characters(references: Sequence[str], hypotheses: Sequence[str]) -> Counts:
    """Character errors per utterance, spaces counted."""
    return _counts(jiwer.process_characters(list(references), list(hypotheses)).alignments)


def align(reference: str, hypothesis: str) -> list[Pair]:
    """Word alignment, step by step.

    >>> align("a b c", "a x")
    [Pair(kind='=', reference='a', hypothesis='a'), Pair(kind='S', reference='b', hypothesis='x'),
     Pair(kind='D', reference='c', hypothesis='')]
    """
    said, written = reference.split(), hypothesis.split()
    (chunks,) = jiwer.process_words([reference], [hypothesis]).alignments
    pairs = []
    for chunk in chunks:
        references = said[chunk.ref_start_idx : chunk.ref_end_idx]
        hypotheses = written[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for step in range(max(len(references), len(hypotheses))):
            one, other = references[step : step + 1], hypotheses[step : step + 1]
            pairs.append(Pair(_SIGN_OF[chunk.type], "".join(one), "".join(other)))
    return pairs


def _counts(alignments: Sequence[Sequence[jiwer.AlignmentChunk]]) -> Counts:
    counts_N4 = np.zeros((len(alignments), len(KINDS)), np.int64)
    for row, chunks in enumerate(alignments):
        for chunk in chunks:
            length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            counts_N4[row, KINDS.index(chunk.type)] += length
    return Counts(*counts_N4.T)
