"""Scores of a system on a split; as JSON, an entry of ``systems`` in ``results.json``."""

from dataclasses import dataclass
from typing import Any

from moe_lightning.evaluation.bootstrap import Interval
from moe_lightning.evaluation.scores import Rates


@dataclass(frozen=True, kw_only=True)
class GroupScores(Rates):
    """Scores of a system on a group's utterances."""

    utterances: int
    speakers: int
    interval: Interval | None
    """For the headline's rate, 95 %."""
    interval_over: str


@dataclass(frozen=True, kw_only=True)
class SystemScores(Rates):
    """Scores of a system on all utterances, and by group."""

    interval: Interval | None
    """For the headline's rate, 95 %."""
    interval_over: str
    interval_over_utterances: Interval | None
    raw: dict[str, float]
    """``wer`` and ``cer`` of the texts without normalisation."""
    figures_for_words: int
    """Utterances with figures but none in the reference, in languages whose normaliser changes neither."""
    groups: dict[str, dict[str, GroupScores]]
    worst_group: dict[str, dict[str, Any]]
    """Per field: the value with the highest rate, and that rate."""
    spread: dict[str, float]
    """Per field: highest rate of a group minus the lowest."""
