"""Word and character error rates of a system, overall and by group."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jiwer

Groups: TypeAlias = dict[str, dict[str, dict[str, float]]]


class Errors(NamedTuple):
    """Errors of hypotheses against references; rates are fractions and can exceed 1."""

    wer: float
    cer: float
    words: int
    """Of the references."""


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Errors over all utterances together (not a mean of rates).

    Raises:
        ValueError: There is no word to compare with.
    """
    if not references or not all(references):
        raise ValueError("every reference needs at least one word; leave out those without")
    words = jiwer.process_words(list(references), list(hypotheses))
    characters = jiwer.process_characters(list(references), list(hypotheses))
    num_words = words.hits + words.substitutions + words.deletions
    return Errors(round(words.wer, 6), round(characters.cer, 6), num_words)


def score_groups(references: Sequence[str], hypotheses: Sequence[str], fields: Mapping[str, Sequence[str]]) -> Groups:
    """``{field: {value: {wer, cer, words, utterances}}}`` for every value of every field, largest first.

    Args:
        fields: Value of each utterance, by the name of the field.
    """
    groups: Groups = {}
    for field, values in fields.items():
        rows_of: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            rows_of.setdefault(value, []).append(row)
        by_size = sorted(rows_of.items(), key=lambda item: (-len(item[1]), item[0]))
        groups[field] = {
            value: {
                **score([references[row] for row in rows], [hypotheses[row] for row in rows])._asdict(),
                "utterances": len(rows),
            }
            for value, rows in by_size
        }
    return groups
