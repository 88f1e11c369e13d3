"""The report as one HTML file that needs nothing beside it but, to play, the audio."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from moe_lightning.clustering.association import Association
from moe_lightning.clustering.report import Report

_PAGE_DIR = Path(__file__).with_name("page")


def page(report: Report, scatter: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The whole page.

    Args:
        scatter: Of `scatter_data`.
        pictures: Title and PNG of each.
    """
    sections = [
        _head(report),
        _scatter_section(scatter),
        _cluster_section(report),
        _association_section(report),
        *(_field_section(one, [row.name for row in report.clusters]) for one in report.associations if one.values),
        _candidate_section(report),
        _picture_section(pictures),
        _settings_section(report),
    ]
    style, script = ((_PAGE_DIR / name).read_text(encoding="utf-8") for name in ("style.css", "scatter.js"))
    # a "</script>" in a transcript would end the element: no "<" is left in the data
    data = json.dumps(scatter, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Clusters: {escape(report.verdict.sentence[:80])}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f'\n<div id="tip"></div>\n<script type="application/json" id="points">{data}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    kind = " warning" if report.verdict.is_warning else ""
    figures = [
        (str(report.num_utterances), "utterances"),
        (str(sum(row.name != "noise" for row in report.clusters)), f"clusters by {report.algorithm}"),
        (f"{report.max_probability:.2f}", "mean largest probability"),
        (f"{report.entropy:.2f}", "normalised entropy of the soft labels"),
        (
            _number(report.stability.resamples),
            f"stability over samples (shuffled data: {_number(report.stability.shuffled)})",
        ),
        (_number(report.stability.seeds), "stability over seeds"),
        (_number(report.separation.silhouette), "silhouette, -1 to 1"),
        (_number(report.separation.davies_bouldin), "Davies-Bouldin, lower is better"),
    ]
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in figures
    )
    said = f"{report.verdict.sentence} {report.stability.in_words()}"
    return (
        "<h1>Are the clusters real?</h1>\n"
        f'<p class="verdict{kind}">{escape(said)}</p>\n<div class="cards">{cards}</div>\n'
        '<p class="soft">Stability is the mean adjusted Rand index of the clusters with those of four samples of 80 %'
        " of the training utterances, or two other seeds: 1 is the same clusters, 0 is chance. Shuffled data has no"
        " clusters; what it reaches is worth nothing.</p>"
    )


def _scatter_section(scatter: dict[str, Any]) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in scatter["columns"])
    return (
        "<h2>The training utterances</h2>\n"
        f'<div class="controls"><label>colour by <select id="colour-by">{options}</select></label>'
        '<span class="soft">click a point to hear it, a line of the legend to see it alone</span>'
        '<audio id="audio" controls hidden></audio><span id="said"></span></div>\n'
        '<div class="scatter"><canvas id="canvas" role="img" aria-label="scatter of the training utterances"></canvas>'
        '<div id="legend"></div></div>'
    )


def _cluster_section(report: Report) -> str:
    splits = list(report.clusters[0].counts)
    most = max(sum(row.counts.values()) for row in report.clusters)
    rows = [
        [
            escape(row.name),
            _bar(sum(row.counts.values()) / most),
            *(str(row.counts[split]) for split in splits),
            _number(row.max_probability),
        ]
        for row in report.clusters
    ]
    return "<h2>Clusters</h2>\n" + _table(["cluster", "utterances", *splits, "mean largest probability"], rows)


def _association_section(report: Report) -> str:
    if not report.associations:
        return ""
    rows = [
        [
            escape(one.name) + (' <span class="soft">measured</span>' if one.is_nuisance else ""),
            _bar(max(one.ami, 0), one.is_nuisance),
            f"{one.ami:.2f}",
            f"{one.purity:.2f}",
            f"{one.chance_purity:.2f}",
            str(one.num_missing),
        ]
        for one in report.associations
    ]
    heads = ["variable", "", "adjusted mutual information", "purity", "purity without clusters", "not known"]
    return (
        "<h2>What the clusters follow</h2>\n"
        "<p>Adjusted mutual information is 0 by chance and 1 for the same partition. Orange variables are properties of"
        " the recording; clusters should not follow them.</p>\n" + _table(heads, rows)
    )


def _field_section(association: Association, names: Sequence[str]) -> str:
    """Heat map of clusters by values; a row is coloured by the shares of its utterances."""
    rows = []
    for name, counts in zip(names, association.counts_CV, strict=False):  # noise may lie outside train alone
        total = sum(counts)
        cells = [_heat_cell(count / total if total else 0.0, count) for count in counts]
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}<td>{total}</td></tr>")
    heads = "".join(f"<th>{escape(value)}</th>" for value in ("cluster", *association.values, "all"))
    return (
        f'<h3>{escape(association.name)}</h3>\n<div class="wide"><table class="heat"><tr>{heads}</tr>\n'
        + "\n".join(rows)
        + "</table></div>"
    )


def _heat_cell(share: float, count: int) -> str:
    """White to blue; the number is the count."""
    red, green, blue = (round(255 + share * (end - 255)) for end in (0, 114, 178))
    ink = "#fff" if share > 0.55 else "#1b1f24"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}" title="{share:.0%}">{count or ""}</td>'


def _candidate_section(report: Report) -> str:
    if not report.candidates:
        return ""
    chosen = sum(row.name != "noise" for row in report.clusters)
    most = max(max(one["eigengap"] for one in report.candidates), 1e-9)
    rows = [
        [str(one["num_experts"]), _bar(one["eigengap"] / most), f"{one['eigengap']:.4f}", f"{one['stability']:.2f}"]
        for one in report.candidates
    ]
    marked = [one["num_experts"] == chosen for one in report.candidates]
    return "<h2>Why so many experts</h2>\n" + _table(["experts", "", "eigengap", "stability"], rows, marked)


def _picture_section(pictures: Sequence[tuple[str, bytes]]) -> str:
    if not pictures:
        return ""
    images = "".join(
        f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for title, png in pictures
    )
    return f'<h2>Pictures</h2>\n<div class="pictures">{images}</div>'


def _settings_section(report: Report) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    shown = {name: value for name, value in report.settings.items() if name != "hdbscan"}
    if report.settings["algorithm"] == "hdbscan":
        shown |= report.settings["hdbscan"]
    rows = [[escape(name), escape(str(value))] for name, value in shown.items()]
    return (
        "<h2>How it was made</h2>\n"
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + _table(["setting", "value"], rows, text_columns=True)
    )


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[bool] = (), text_columns: bool = False
) -> str:
    """Cells are HTML already; one that is a bar brings its own ``<td>``."""
    kind = ' class="text"' if text_columns else ""
    body = []
    for number, row in enumerate(rows):
        cells = "".join(cell if cell.startswith("<td") else f"<td{kind}>{cell}</td>" for cell in row)
        body.append(f'<tr class="chosen">{cells}</tr>' if marked and marked[number] else f"<tr>{cells}</tr>")
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name in heads)
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(body) + "</table></div>"


def _bar(share: float, is_nuisance: bool = False) -> str:
    kind = ' class="nuisance"' if is_nuisance else ""
    return f'<td class="bar"><div{kind} style="width:{100 * share:.1f}%"></div></td>'


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"
