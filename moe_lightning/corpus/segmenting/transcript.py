"""The transcript of a long recording: its words, and where each piece's text may begin and end."""

import unicodedata
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein, Opcode

from moe_lightning.data.normaliser import has_spaces

REACH = 3
"""Words before and after a likely border that are tried too."""
SURE = 4
"""Equal letters in a row that are hardly equal by chance."""


class Word(NamedTuple):
    """A word of the transcript, or a character of a script without spaces."""

    start: int
    """Characters from the beginning of the transcript."""
    end: int


class Borders(NamedTuple):
    """Words at which a piece's text may begin and end: numbers from 0 to the number of words, ascending."""

    starts: list[int]
    ends: list[int]


def words_of(text: str, language: str | None) -> list[Word]:
    """Words of a transcript. Without spaces: characters, with their marks and the punctuation behind them."""
    words: list[Word] = []
    spaced = has_spaces(language)
    for place, character in enumerate(text):
        if character.isspace():
            continue
        is_joined = bool(words) and words[-1].end == place
        if is_joined and (spaced or unicodedata.category(character)[0] in "MP"):
            words[-1] = Word(words[-1].start, place + 1)
        else:
            words.append(Word(place, place + 1))
    return words


def likely_borders(text: str, words: Sequence[Word], heard: Sequence[str]) -> list[Borders]:
    """Where the text of each piece may begin and end, by the edit distance to what a model heard in it.

    Args:
        heard: Text of each piece, from the model.
    """
    keys = [letters(text[word.start : word.end]) for word in words]
    ends_W = np.array([0, *accumulate(len(key) for key in keys)])
    parts = [letters(one) for one in heard]
    found = Levenshtein.opcodes("".join(keys), "".join(parts))
    equal = [(one.src_start, one.dest_start, one.src_end - one.src_start) for one in found if one.tag == "equal"]
    equal_3N = np.array(equal, np.int64).reshape(-1, 3).T
    borders, start = [], 0
    for part in parts:
        starts, ends = (_around(equal_3N, place, ends_W) for place in (start, start + len(part)))
        borders.append(Borders(starts, ends))
        start += len(part)
    return borders


def _around(equal_3N: np.ndarray, heard: int, ends_W: np.ndarray) -> list[int]:
    """Word borders near the letters of the transcript that equal those before and after a place in what was heard."""
    near = set()
    for src_N, dest_N, size_N in (equal_3N, equal_3N[:, equal_3N[2] >= SURE]):
        before = (src_N + np.minimum(size_N, heard - dest_N))[dest_N < heard].max(initial=0)
        after = (src_N + np.maximum(0, heard - dest_N))[dest_N + size_N > heard].min(initial=ends_W[-1])
        near |= {int(np.abs(ends_W - place).argmin()) for place in (before, after)}
    last = len(ends_W) - 1
    return sorted({min(max(word + step, 0), last) for word in near for step in range(-REACH, REACH + 1)})


def letters(text: str) -> str:
    """Letters and digits, for comparison."""
    return "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if one.isalnum())


def most_unmatched(text: str, heard: str) -> int:
    """Most letters in a row that were heard, and that the text lacks.

    A badly recognised sentence has about as many letters as its text, and counts little; one that is not in the text
    counts whole.
    """
    surplus_N = np.cumsum([0, *(_surplus(one) for one in Levenshtein.opcodes(text, heard))])
    return int((surplus_N - np.minimum.accumulate(surplus_N)).max())


def _surplus(step: Opcode) -> int:
    return (step.dest_end - step.dest_start) - (step.src_end - step.src_start)
