"""The report as one self-contained HTML page."""

from collections.abc import Iterable, Sequence
from html import escape

from moe_lightning.corpus.checking.finding import Finding
from moe_lightning.corpus.checking.summary import CorpusSummary, Histogram
from moe_lightning.reports.html_page import content_policy

_SHOWN = 200
"""Utterances per finding on the page; the JSON file has them all."""
_COLOURS = {"train": "#3b6ea8", "dev": "#d98032", "test": "#4d9a57"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
details { margin: .5rem 0; padding: .4rem .8rem; border-left: 4px solid #d9a832; background: #faf8f2; }
details.stops { border-color: #b3372f; background: #fbf3f2; }
details ol { max-height: 18rem; overflow: auto; }
.charts, .fields { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.5rem; }
svg text { font: 11px system-ui, sans-serif; fill: #555; }
code { background: #f0f0f0; }
"""


def html_page(name: str, summary: CorpusSummary, findings: Sequence[Finding]) -> str:
    """The whole page."""
    stops = sum(finding.stops_training for finding in findings)
    verdict = f"{stops} finding(s) would stop a training." if stops else "Nothing here would stop a training."
    legend = " ".join(f'<b style="color:{_COLOURS[split]}">{split}</b>' for split in summary.splits)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{content_policy()}'
        f"<title>Corpus check: {escape(name)}</title>"
        f"<style>{_STYLE}</style><h1>Corpus check: {escape(name)}</h1><p>{verdict}</p>"
        f"<h2>In numbers</h2>{_split_table(summary)}"
        f"<h2>Findings</h2>{''.join(map(_finding, findings)) or '<p>None.</p>'}"
        f'<h2>Distributions</h2><p>{legend}</p><div class="charts">{"".join(map(_chart, summary.histograms))}</div>'
        f'<h2>Hours by field</h2><div class="fields">{"".join(_field(*item) for item in summary.fields.items())}</div>'
        "</html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>{cells}</table>"


def _split_table(summary: CorpusSummary) -> str:
    head = ("split", "utterances", "speakers", "hours", "words", "median seconds", "longest")
    return _table(
        head,
        (
            (split, f"{one.num_utterances:,}", f"{one.num_speakers:,}", f"{one.hours:.3f}", f"{one.num_words:,}",
             f"{one.median_seconds:.2f}", f"{one.max_seconds:.2f}")
            for split, one in summary.splits.items()
        ),
    )  # fmt: skip


def _finding(finding: Finding) -> str:
    lines = [
        f"<li><code>{escape(id_)}</code> {escape(line)}</li>"
        for id_, line in zip(finding.utterances[:_SHOWN], finding.details, strict=False)
    ]
    hidden = len(finding.utterances) - len(lines)
    more = f"<p>and {hidden:,} more in report.json</p>" if hidden else ""
    kind = ' class="stops"' if finding.stops_training else ""
    effect = " &middot; stops a training" if finding.stops_training else ""
    return (
        f"<details{kind}><summary><b>{escape(finding.rule)}</b> &middot; {len(finding.utterances):,}{effect}</summary>"
        f"<p>{escape(finding.explanation)}</p><ol>{''.join(lines)}</ol>{more}</details>"
    )


def _chart(histogram: Histogram) -> str:
    """Stacked bars, as SVG."""
    width, height, step = 288, 120, 12
    totals = [sum(column) for column in zip(*histogram.counts.values(), strict=True)]
    scale = height / max([*totals, 1])
    bars, tops = [], [0.0] * len(totals)
    for split, counts in histogram.counts.items():
        for column, count in enumerate(counts):
            tops[column] += count * scale
            bars.append(
                f'<rect x="{column * step}" y="{height - tops[column]:.1f}" width="{step - 1}"'
                f' height="{count * scale:.1f}" fill="{_COLOURS[split]}"/>'
            )
    return (
        f'<svg width="{width}" height="{height + 34}" role="img" aria-label="{escape(histogram.title)}">{"".join(bars)}'
        f'<text x="0" y="{height + 14}">0</text>'
        f'<text x="{width}" y="{height + 14}" text-anchor="end">{histogram.edges[-1]:.3g}</text>'
        f'<text x="{width / 2}" y="{height + 30}" text-anchor="middle">{escape(histogram.title)}</text></svg>'
    )


def _field(name: str, hours: dict[str, float]) -> str:
    return _table((name, "hours"), ((value or "(empty)", f"{share:.3f}") for value, share in hours.items()))
