"""Findings of the corpus checks."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One rule broken by utterances of a corpus."""

    rule: str
    """In a few words: ``no transcript``."""
    stops_training: bool
    """False if a training can go on, with worse data or without these utterances."""
    explanation: str
    """The rule's limits, and possible remedies."""
    utterances: tuple[str, ...]
    """Ids of all utterances that break it."""
    details: tuple[str, ...] = ()
    """A line for each utterance, or for each shared or odd value."""


def findings_of(*candidates: Finding | None) -> list[Finding]:
    """The candidates with a finding."""
    return [finding for finding in candidates if finding is not None]


def finding(
    rule: str, explanation: str, lines: Iterable[tuple[str, str]], stops_training: bool = False
) -> Finding | None:
    """A finding from ``(utterance id, line about it)`` pairs; None if there are none."""
    pairs = list(lines)
    if not pairs:
        return None
    return Finding(rule, stops_training, explanation, tuple(id_ for id_, _ in pairs), tuple(line for _, line in pairs))
