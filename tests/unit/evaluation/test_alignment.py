"""Alignments and their counts against counting by hand, jiwer's totals, and the obvious dynamic program."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lightning.evaluation.alignment import align, count_characters, count_words
from tests.unit.evaluation.made_up import random_texts

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ä"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "a x c", (2, 1, 0, 0)),
        ("a b c", "a c", (2, 0, 1, 0)),
        ("a b", "a b b b", (2, 0, 0, 2)),
        ("ab cd", "", (0, 0, 2, 0)),
        ("a b c d", "x b d", (2, 1, 1, 0)),
    ],
)
def test_hits_substitutions_deletions_and_insertions_by_hand(
    reference: str, hypothesis: str, expected: tuple[int, int, int, int]
) -> None:
    counts = count_words([reference], [hypothesis])
    assert tuple(int(count_N[0]) for count_N in counts) == expected


def test_the_totals_are_jiwers() -> None:
    references, hypotheses = random_texts(0, 60), random_texts(1, 60, shortest=0)
    for counts, theirs in (
        (count_words(references, hypotheses), jiwer.process_words(references, hypotheses)),
        (count_characters(references, hypotheses), jiwer.process_characters(references, hypotheses)),
    ):
        assert [int(count_N.sum()) for count_N in counts] == [
            theirs.hits,
            theirs.substitutions,
            theirs.deletions,
            theirs.insertions,
        ]


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's recursion, row by row."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, written in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (said != written))
    return row[-1]


@given(reference=WORDS, hypothesis=WORDS)
@settings(max_examples=150)
def test_an_alignment_has_the_fewest_errors_and_spells_both_sides(reference: str, hypothesis: str) -> None:
    pairs = align(reference, hypothesis)
    assert [pair.reference for pair in pairs if pair.kind != "I"] == reference.split()
    assert [pair.hypothesis for pair in pairs if pair.kind != "D"] == hypothesis.split()
    assert all((pair.reference == pair.hypothesis) == (pair.kind == "=") for pair in pairs)
    errors = sum(pair.kind != "=" for pair in pairs)
    assert errors == edit_distance(reference.split(), hypothesis.split())
    assert errors == int(count_words([reference], [hypothesis]).errors_N[0])


@given(references=st.lists(WORDS, min_size=1, max_size=6), data=st.data())
@settings(max_examples=60)
def test_each_utterance_is_counted_as_if_it_were_alone(references: list[str], data: st.DataObject) -> None:
    hypotheses = [data.draw(WORDS) for _ in references]
    together = count_words(references, hypotheses)
    for row, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        alone = count_words([reference], [hypothesis])
        assert [int(count_N[row]) for count_N in together] == [int(count_N[0]) for count_N in alone]
    assert np.array_equal(together.lengths_N, [len(reference.split()) for reference in references])
