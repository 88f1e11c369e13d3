"""What a check says."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One rule that utterances of a corpus break."""

    rule: str
    """In a few words: ``no transcript``."""
    stops_training: bool
    """False where a training goes on, with worse data or without these utterances."""
    explanation: str
    """The rule's limits, and what can be done."""
    utterances: tuple[str, ...]
    """Ids of all utterances that break it."""
    details: tuple[str, ...] = ()
    """A line about each utterance, or about each value that is shared or odd."""


def findings_of(*candidates: Finding | None) -> list[Finding]:
    """Those that found something."""
    return [finding for finding in candidates if finding is not None]


def finding(
    rule: str, explanation: str, lines: Iterable[tuple[str, str]], stops_training: bool = False
) -> Finding | None:
    """A finding out of ``(utterance id, line about it)`` pairs; None where there are none."""
    pairs = list(lines)
    if not pairs:
        return None
    return Finding(rule, stops_training, explanation, tuple(id_ for id_, _ in pairs), tuple(line for _, line in pairs))
