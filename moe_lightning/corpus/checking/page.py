"""Contents of the page of a corpus check."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from moe_lightning.corpus.checking.finding import Finding
from moe_lightning.corpus.checking.summary import CorpusSummary, Histogram
from moe_lightning.reports.pages import render_page

_SHOWN = 200
"""Utterances per finding on the page; the JSON file has them all."""
_HEIGHT, _STEP = 120, 12
"""Of a chart, and of one of its columns, in pixels."""


class _Bar(NamedTuple):
    split: str
    x: int
    y: float
    height: float


def html_page(name: str, summary: CorpusSummary, findings: Sequence[Finding]) -> str:
    """The whole page."""
    stops = sum(finding.stops_training for finding in findings)
    return render_page(
        "corpus_check.html.j2",
        ["corpus_check.css"],
        name=name,
        verdict=f"{stops} finding(s) would stop a training." if stops else "Nothing here would stop a training.",
        splits=_splits(summary),
        findings=[_finding(one) for one in findings],
        split_names=list(summary.splits),
        charts=[_chart(one) for one in summary.histograms],
        fields=[
            (field, [(value or "(empty)", f"{share:.3f}") for value, share in hours.items()])
            for field, hours in summary.fields.items()
        ],
    )


def _splits(summary: CorpusSummary) -> list[tuple[str, ...]]:
    return [
        (split, f"{one.num_utterances:,}", f"{one.num_speakers:,}", f"{one.hours:.3f}", f"{one.num_words:,}",
         f"{one.median_seconds:.2f}", f"{one.max_seconds:.2f}")
        for split, one in summary.splits.items()
    ]  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    lines = list(zip(finding.utterances[:_SHOWN], finding.details, strict=False))
    hidden = len(finding.utterances) - len(lines)
    return {
        "rule": finding.rule,
        "explanation": finding.explanation,
        "stops": finding.stops_training,
        "count": f"{len(finding.utterances):,}",
        "lines": lines,
        "hidden": f"{hidden:,}" if hidden else "",
    }


def _chart(histogram: Histogram) -> dict[str, Any]:
    """Stacked bars."""
    totals = [sum(column) for column in zip(*histogram.counts.values(), strict=True)]
    scale = _HEIGHT / max([*totals, 1])
    bars, tops = [], [0.0] * len(totals)
    for split, counts in histogram.counts.items():
        for column, count in enumerate(counts):
            tops[column] += count * scale
            bars.append(_Bar(split, column * _STEP, _HEIGHT - tops[column], count * scale))
    return {"title": histogram.title, "last": f"{histogram.edges[-1]:.3g}", "bars": bars}
