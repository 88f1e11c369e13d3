"""The report as one HTML file; only playback needs further files (the audio)."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from moe_lightning.clustering.association import Association
from moe_lightning.clustering.report import Report
from moe_lightning.reports.html_page import bar_cell, cards, document, heat_map, picture, table, verdict

_PAGE_DIR = Path(__file__).with_name("page")


def page(report: Report, scatter: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The whole page.

    Args:
        scatter: From `scatter_data`.
        pictures: Title and PNG each.
    """
    sections = [
        _head(report),
        _scatter_section(scatter),
        _cluster_section(report),
        _association_section(report),
        *(
            _field_section(one, [row.name for row in report.clusters])
            for one in report.associations
            if one.values and not one.is_bookkeeping
        ),
        _candidate_section(report),
        _picture_section(pictures),
        _settings_section(report),
    ]
    style, script = ((_PAGE_DIR / name).read_text(encoding="utf-8") for name in ("scatter.css", "scatter.js"))
    # a "</script>" in a transcript would end the element, so every "<" is escaped
    data = json.dumps(scatter, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    end = f'<div id="tip"></div>\n<script type="application/json" id="points">{data}</script>\n'
    return document(f"Clusters: {report.verdict.sentence[:80]}", sections, style, end, script)


def _head(report: Report) -> str:
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
    said = f"{report.verdict.sentence} {report.stability.in_words()}"
    return (
        "<h1>Are the clusters real?</h1>\n"
        f"{verdict(said, report.verdict.is_warning)}\n{cards(figures)}\n"
        '<p class="soft">Stability is the mean adjusted Rand index of the clusters with those of four samples of 80 %'
        f" of the training {'speakers' if report.settings.get('pool_speakers') else 'utterances'}, or two other seeds:"
        " 1 is the same clusters, 0 is chance. Shuffled data has no clusters; what it reaches is worth nothing.</p>"
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
            bar_cell(sum(row.counts.values()) / most),
            *(str(row.counts[split]) for split in splits),
            _number(row.max_probability),
        ]
        for row in report.clusters
    ]
    return "<h2>Clusters</h2>\n" + table(["cluster", "utterances", *splits, "mean largest probability"], rows)


def _association_section(report: Report) -> str:
    if not report.associations:
        return ""
    rows = [
        [
            escape(one.name) + _kind(one),
            bar_cell(max(one.ami, 0), "nuisance" if one.is_nuisance else ""),
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
        "<p>Adjusted mutual information is 0 by chance and 1 for the same partition; chance is what is left when"
        " speakers exchange their values, so that few speakers in few clusters do not look like an accent. Orange"
        " variables are properties of the recording; clusters should not follow them. Fields of bookkeeping say where a"
        " recording is filed; the verdict passes them over.</p>\n" + table(heads, rows)
    )


def _kind(association: Association) -> str:
    kind = "measured" if association.is_nuisance else "bookkeeping" if association.is_bookkeeping else ""
    return f' <span class="soft">{kind}</span>' if kind else ""


def _field_section(association: Association, names: Sequence[str]) -> str:
    """Heat map of clusters by values; row colours are shares of the row's utterances."""
    rows = zip(names, association.counts_CV, strict=False)  # there may be noise outside train only
    return f"<h3>{escape(association.name)}</h3>\n" + heat_map("cluster", association.values, rows)


def _candidate_section(report: Report) -> str:
    if not report.candidates:
        return ""
    chosen = sum(row.name != "noise" for row in report.clusters)
    most = max(max(one["eigengap"] for one in report.candidates), 1e-9)
    rows = [
        [str(one["num_experts"]), bar_cell(one["eigengap"] / most), f"{one['eigengap']:.4f}", f"{one['stability']:.2f}"]
        for one in report.candidates
    ]
    marked = [one["num_experts"] == chosen for one in report.candidates]
    return "<h2>Why so many experts</h2>\n" + table(["experts", "", "eigengap", "stability"], rows, marked)


def _picture_section(pictures: Sequence[tuple[str, bytes]]) -> str:
    if not pictures:
        return ""
    images = "".join(picture(title, png) for title, png in pictures)
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
        + table(["setting", "value"], rows, text_columns=True)
    )


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"
