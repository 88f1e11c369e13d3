"""Names of systems, and their lines in tables: page, terminal and model card share them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from moe_lightning.reports.results import Interval, Rates, Results, SystemScores

_LABELS = {"backbone": "the bare backbone", "mixture": "the mixture"}


def label(system: str) -> str:
    """Name of a system in a sentence."""
    return _LABELS.get(system, system)


def called(results: Results, system: str) -> str:
    """Name of a system from the results, else as in a sentence."""
    return results.systems[system].label or label(system)


class Column(NamedTuple):
    """Column in a table of systems."""

    head: str
    cell: Callable[[SystemScores], str]
    is_shown: Callable[[Sequence[SystemScores]], bool] = lambda all_: True


def system_table(results: Results, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of all systems, with the columns that have something to show."""
    shown = [column for column in columns if column.is_shown(list(results.systems.values()))]
    rows = [
        [called(results, name).removeprefix("the "), *(column.cell(one) for column in shown)]
        for name, one in results.systems.items()
    ]
    return ["system", *(column.head for column in shown)], rows


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def counted(utterances: int | None) -> str:
    """Number of utterances; ``-`` if not counted."""
    return "-" if utterances is None else str(utterances)


def interval_in_words(interval: Interval | None) -> str:
    """Bounds in percent: ``8.2 to 11.5``."""
    return "-" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def group_name(value: str, group: Rates, system: Rates) -> str:
    """Name of a group, with its error rate's name if groups differ in it."""
    return value if group.metric == system.metric else f"{value} ({group.metric})"


def _is_mixed(systems: Sequence[SystemScores]) -> bool:
    return any(one.metric not in ("WER", "CER") for one in systems)


COLUMNS = (
    Column("WER/CER %", lambda one: percent(one.rate), _is_mixed),
    Column("WER %", lambda one: percent(one.wer)),
    Column("CER %", lambda one: percent(one.cer)),
    Column("substituted", lambda one: str(one.substitutions)),
    Column("deleted", lambda one: str(one.deletions)),
    Column("inserted", lambda one: str(one.insertions)),
    Column("raw WER %", lambda one: percent(one.raw.wer)),
    Column("raw CER %", lambda one: percent(one.raw.cer)),
    Column(
        "figures for words",
        lambda one: str(one.figures_for_words),
        lambda all_: any(one.figures_for_words for one in all_),
    ),
    Column(
        "loops",
        lambda one: counted(one.loops),
        lambda all_: any(one.loops is not None for one in all_),
    ),
    Column(
        "silenced",
        lambda one: counted(one.silenced),
        lambda all_: any(one.silenced is not None for one in all_),
    ),
)
"""Scores of a system; the last three count utterances."""
