"""Score systems on the same utterances: rates with intervals, groups, comparisons.

A system is a name with hypotheses by utterance id, from any source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeAlias

import numpy as np

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.evaluation.bootstrap import CONFIDENCE, compare
from moe_lightning.evaluation.fields import DURATION, DURATION_SLOTS, LAST_SLOT, OWN_FIELDS, group_columns
from moe_lightning.evaluation.scores import (
    Draws,
    References,
    SystemCounts,
    draw,
    error_rate,
    metric_of,
    rates,
)
from moe_lightning.reports.results import (
    Bootstrap,
    Compared,
    Comparison,
    GroupScores,
    NormaliserName,
    OverUtterances,
    RawRates,
    Results,
    SystemScores,
    WorstGroup,
)
from moe_lightning.settings.evaluation import ScoreSettings

Hypotheses: TypeAlias = Mapping[str, str]
"""Text by utterance id."""

MOST_DIFFERING = 20
MOST_COMPARED = 64
"""A field with more values (sessions, many speakers) has scores by group, but no comparisons by group."""
MIN_WORDS = 30
"""A group with fewer words is not ranked as the worst group: its rate is chance."""


def score_systems(
    utterances: Sequence[Utterance],
    systems: Mapping[str, Hypotheses],
    comparisons: Sequence[tuple[str, str]] = (),
    columns: Mapping[str, Mapping[str, str]] | None = None,
    settings: ScoreSettings | None = None,
) -> Results:
    """Score systems on the same utterances.

    Args:
        utterances: With reference transcripts; utterances without a word are left out.
        systems: Text of every utterance, by system name.
        comparisons: Pairs of system and baseline; the first is the headline.
        columns: Additional groups: value by utterance id, by field name.

    Returns:
        Scores, comparisons and the scoring settings.

    Raises:
        InputError: The systems have different utterances, or no reference has a word.
    """
    settings = settings or ScoreSettings()
    check_same_utterances([utterance.id for utterance in utterances], systems)
    normaliser = Normaliser(settings.normaliser)
    references = References.of(utterances, normaliser)
    kept = set(references.ids)
    own = {name: [values[id_] for id_ in references.ids] for name, values in (columns or {}).items()}
    groups = own | group_columns([utterance for utterance in utterances if utterance.id in kept], settings.by)
    counts = {name: SystemCounts.of(references, hypotheses) for name, hypotheses in systems.items()}
    board = _Board(references, counts, settings)
    return Results(
        systems={name: board.system(name, groups) for name in systems},
        comparisons={
            f"{system} vs {baseline}": board.comparison(system, baseline, groups) for system, baseline in comparisons
        },
        utterances=len(references.ids),
        speakers=len(set(references.speakers)),
        left_out_without_words=len(utterances) - len(references.ids),
        metric=metric_of(references.languages),
        normaliser=NormaliserName(normaliser.choice, normaliser.name(references.languages)),
        bootstrap=Bootstrap(settings.num_resamples, settings.seed, CONFIDENCE),
    )


def check_same_utterances(ids: Sequence[str], systems: Mapping[str, Hypotheses]) -> None:
    """Raise an InputError if a system has too few or too many utterances."""
    expected = set(ids)
    for name, hypotheses in systems.items():
        odd = sorted(expected ^ hypotheses.keys())
        if odd:
            has = "has" if odd[0] in hypotheses else "lacks"
            raise InputError(
                "corpus.other-utterances",
                f"systems can only be compared on the same utterances: {name} differs in {len(odd)} of"
                f" {len(expected)} ({has} {odd[0]!r}); decode it again on this split with `moe-lightning evaluate`",
                odd[0],
            )


class _Board:
    """All systems side by side; a group is drawn only once."""

    def __init__(self, references: References, counts: Mapping[str, SystemCounts], settings: ScoreSettings):
        self.references = references
        self.counts = counts
        self.place = {name: number for number, name in enumerate(counts)}
        self.settings = settings
        self.all_rows = np.arange(len(references.ids))
        self.draws: dict[tuple[str, str, str], Draws] = {}

    def system(self, name: str, groups: Mapping[str, Sequence[str]]) -> SystemScores:
        """Scores of one system, overall and by group."""
        counts, draws = self.counts[name], self._drawn("", "", self.all_rows)
        by_group = {field: self._groups(name, field, values) for field, values in groups.items()}
        return SystemScores(
            **asdict(rates(counts, self.references, self.all_rows)),
            interval=draws.interval(self.place[name]),
            interval_over=draws.over,
            interval_over_utterances=self._by_utterance().interval(self.place[name]),
            raw=RawRates(error_rate(counts.raw_words, self.all_rows), error_rate(counts.raw_characters, self.all_rows)),
            figures_for_words=int(counts.has_figures_N.sum()),
            groups=by_group,
            worst_group={field: _worst(values) for field, values in by_group.items() if values},
            spread={field: _spread(values) for field, values in by_group.items() if values},
        )

    def comparison(self, system: str, baseline: str, groups: Mapping[str, Sequence[str]]) -> Comparison:
        """One system against another, overall and by group."""
        overall = self._compared("", "", self.all_rows, system, baseline)
        by_utterance = self._against(self._by_utterance(), self.all_rows, system, baseline)
        by_group = {
            field: {
                value: self._compared(field, value, rows, system, baseline)
                for value, rows in rows_by_value(field, values).items()
            }
            for field, values in groups.items()
            if field in OWN_FIELDS or len(set(values)) <= MOST_COMPARED
        }
        improved, worsened = self._most_differing(system, baseline)
        return Comparison(
            system=system,
            baseline=baseline,
            **asdict(overall),
            over_utterances=OverUtterances(by_utterance.interval, by_utterance.probability_better),
            groups=by_group,
            most_improved=improved,
            most_worsened=worsened,
        )

    def _groups(self, name: str, field: str, values: Sequence[str]) -> dict[str, GroupScores]:
        groups = {}
        for value, rows in rows_by_value(field, values).items():
            draws = self._drawn(field, value, rows)
            groups[value] = GroupScores(
                **asdict(rates(self.counts[name], self.references, rows)),
                utterances=len(rows),
                speakers=len({self.references.speakers[row] for row in rows}),
                interval=draws.interval(self.place[name]),
                interval_over=draws.over,
            )
        return groups

    def _compared(self, field: str, value: str, rows: np.ndarray, system: str, baseline: str) -> Compared:
        return self._against(self._drawn(field, value, rows), rows, system, baseline)

    def _against(self, draws: Draws, rows: np.ndarray, system: str, baseline: str) -> Compared:
        if draws.rates_RS is None:
            return Compared(over=draws.over, probability_better=None)
        sides = [
            draws.resampled(self.place[name], error_rate(self.counts[name].units, rows)) for name in (system, baseline)
        ]
        return compare(sides[0], sides[1], draws.over)

    def _drawn(self, field: str, value: str, rows: np.ndarray, over: str = "speakers") -> Draws:
        key = (field, value, over)
        if key not in self.draws:
            settings = self.settings
            systems = list(self.counts.values())
            self.draws[key] = draw(systems, self.references, rows, settings.num_resamples, settings.seed, over)
        return self.draws[key]

    def _by_utterance(self) -> Draws:
        return self._drawn("", "", self.all_rows, "utterances")

    def _most_differing(self, system: str, baseline: str) -> tuple[list[str], list[str]]:
        """Ids of the utterances with the largest decrease and the largest increase in errors, largest first."""
        change_N = self.counts[system].units.errors_N - self.counts[baseline].units.errors_N
        ordered = sorted(zip(change_N.tolist(), self.references.ids, strict=True))
        worst_first = sorted(ordered, key=_worse_first)
        return (
            [id_ for change, id_ in ordered[:MOST_DIFFERING] if change < 0],
            [id_ for change, id_ in worst_first[:MOST_DIFFERING] if change > 0],
        )


def rows_by_value(field: str, values: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows per value, largest group first; duration slots in order, numbers (clusters) ascending."""
    rows_of: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows_of.setdefault(value, []).append(row)
    if field == DURATION:
        slots = [*(name for _, name in DURATION_SLOTS), LAST_SLOT]
        ordered = [slot for slot in slots if slot in rows_of]
    elif all(value.isdecimal() and len(value) < 20 for value in rows_of):
        ordered = sorted(rows_of, key=int)
    else:
        ordered = sorted(rows_of, key=lambda value: (-len(rows_of[value]), value))
    return {value: np.array(rows_of[value]) for value in ordered}


def _worse_first(item: tuple[int, str]) -> tuple[int, str]:
    return -item[0], item[1]


def _large(groups: dict[str, GroupScores]) -> dict[str, GroupScores]:
    return {value: group for value, group in groups.items() if group.length >= MIN_WORDS} or groups


def _worst(groups: dict[str, GroupScores]) -> WorstGroup:
    value = max(_large(groups), key=lambda value: groups[value].rate)
    return WorstGroup(value, groups[value].rate)


def _spread(groups: dict[str, GroupScores]) -> float:
    """Highest rate of a group minus the lowest."""
    rates_of = [group.rate for group in _large(groups).values()]
    return round(max(rates_of) - min(rates_of), 6)
