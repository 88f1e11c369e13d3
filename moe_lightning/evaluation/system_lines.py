"""Names of systems, and their lines in tables: page, terminal and model card share them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from moe_lightning.evaluation.bootstrap import Interval

_LABELS = {"backbone": "the bare backbone", "mixture": "the mixture"}


def label(system: str) -> str:
    """Name of a system in a sentence."""
    return _LABELS.get(system, system)


def called(results: Mapping[str, Any], system: str) -> str:
    """Name of a system from the results, else as in a sentence."""
    return str(results["systems"][system].get("label") or label(system))


@dataclass(frozen=True)
class SystemLine:
    """Table row of a system; rates are fractions."""

    name: str
    metric: str
    rate: float
    interval: Interval | None
    wer: float
    cer: float
    substitutions: int
    deletions: int
    insertions: int
    raw_wer: float
    raw_cer: float
    figures_for_words: int
    trained_parameters: int | None
    loops: int | None
    """Utterances; None if decoded without the guard."""
    silenced: int | None

    @classmethod
    def of(cls, results: Mapping[str, Any], system: str) -> "SystemLine":
        one = results["systems"][system]
        return cls(
            name=called(results, system).removeprefix("the "),
            metric=one["metric"],
            rate=one["rate"],
            interval=one["interval"],
            wer=one["wer"],
            cer=one["cer"],
            substitutions=one["substitutions"],
            deletions=one["deletions"],
            insertions=one["insertions"],
            raw_wer=one["raw"]["wer"],
            raw_cer=one["raw"]["cer"],
            figures_for_words=one["figures_for_words"],
            trained_parameters=one.get("trained_parameters"),
            loops=one.get("loops"),
            silenced=one.get("silenced"),
        )


class Column(NamedTuple):
    """Column in a table of systems."""

    head: str
    cell: Callable[[SystemLine], str]
    is_shown: Callable[[Sequence[SystemLine]], bool] = lambda lines: True


def system_lines(results: Mapping[str, Any]) -> list[SystemLine]:
    """All systems, in the order of the results."""
    return [SystemLine.of(results, name) for name in results["systems"]]


def shown_columns(columns: Sequence[Column], lines: Sequence[SystemLine]) -> list[Column]:
    """Columns with something to show."""
    return [column for column in columns if column.is_shown(lines)]


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def counted(utterances: int | None) -> str:
    """Number of utterances; ``-`` if not counted."""
    return "-" if utterances is None else str(utterances)


def interval_in_words(interval: Interval | None) -> str:
    """Bounds in percent: ``8.2 to 11.5``."""
    return "-" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def group_name(value: str, group: Mapping[str, Any], system: Mapping[str, Any]) -> str:
    """Name of a group, with its error rate's name if groups differ in it."""
    return value if group["metric"] == system["metric"] else f"{value} ({group['metric']})"


def _is_mixed(lines: Sequence[SystemLine]) -> bool:
    return any(line.metric not in ("WER", "CER") for line in lines)


COLUMNS = (
    Column("WER/CER %", lambda line: percent(line.rate), _is_mixed),
    Column("WER %", lambda line: percent(line.wer)),
    Column("CER %", lambda line: percent(line.cer)),
    Column("substituted", lambda line: str(line.substitutions)),
    Column("deleted", lambda line: str(line.deletions)),
    Column("inserted", lambda line: str(line.insertions)),
    Column("raw WER %", lambda line: percent(line.raw_wer)),
    Column("raw CER %", lambda line: percent(line.raw_cer)),
    Column(
        "figures for words",
        lambda line: str(line.figures_for_words),
        lambda lines: any(line.figures_for_words for line in lines),
    ),
    Column("loops", lambda line: counted(line.loops), lambda lines: any(line.loops is not None for line in lines)),
    Column(
        "silenced", lambda line: counted(line.silenced), lambda lines: any(line.silenced is not None for line in lines)
    ),
)
"""Scores of a system; the last three count utterances."""
