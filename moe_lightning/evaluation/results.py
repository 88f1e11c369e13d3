"""Scores of a system on a split; as JSON they are an entry of ``systems`` in ``results.json``."""

from dataclasses import dataclass
from typing import Any

from moe_lightning.evaluation.bootstrap import Interval
from moe_lightning.evaluation.scores import Rates


@dataclass(frozen=True, kw_only=True)
class GroupScores(Rates):
    """A system on the utterances of a group."""

    utterances: int
    speakers: int
    interval: Interval | None
    """Of the headline's rate, 95 %."""
    interval_over: str


@dataclass(frozen=True, kw_only=True)
class SystemScores(Rates):
    """A system on all utterances, and by group."""

    interval: Interval | None
    """Of the headline's rate, 95 %."""
    interval_over: str
    interval_over_utterances: Interval | None
    raw: dict[str, float]
    """``wer`` and ``cer`` of the texts as they are."""
    figures_for_words: int
    """Utterances with figures where the reference has none, in languages whose normaliser leaves both as they are."""
    groups: dict[str, dict[str, GroupScores]]
    worst_group: dict[str, dict[str, Any]]
    """Of each field the value with the highest rate, and that rate."""
    spread: dict[str, float]
    """Of each field the highest rate of a group minus the lowest."""
