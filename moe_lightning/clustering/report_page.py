"""Contents of the report as one HTML file; only playback needs further files (the audio)."""

import json
from collections.abc import Sequence
from typing import Any

from moe_lightning.clustering.association import Association
from moe_lightning.clustering.nuisance import with_unit
from moe_lightning.clustering.report import Report
from moe_lightning.reports.pages import BarCell, NotedCell, render_page, safe_json


def page(report: Report, scatter: dict[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The whole page.

    Args:
        scatter: From `scatter_data`.
        pictures: Title and PNG each.
    """
    names = [row.name for row in report.clusters]
    shown = [one for one in report.associations if one.values and not one.is_bookkeeping]
    num_clusters = sum(name != "noise" for name in names)
    return render_page(
        "clusters.html.j2",
        ["style.css", "scatter.css"],
        "scatter.js",
        title=report.verdict.sentence[:80],
        sentence=f"{report.verdict.sentence} {report.stability.in_words()}",
        is_warning=report.verdict.is_warning,
        figures=_figures(report, num_clusters),
        sampled="speakers" if report.settings.get("pool_speakers") else "utterances",
        scatter=scatter,
        scatter_json=safe_json(json.dumps(scatter, ensure_ascii=False, allow_nan=False)),
        splits=list(report.clusters[0].counts),
        clusters=_clusters(report),
        associations=[_association(one) for one in report.associations],
        # there may be noise outside train only
        fields=[(with_unit(one.name), one.values, list(zip(names, one.counts_CV, strict=False))) for one in shown],
        candidates=_candidates(report),
        is_chosen=[one["num_experts"] == num_clusters for one in report.candidates],
        pictures=pictures,
        notes=report.notes,
        settings=_settings(report),
    )


def _figures(report: Report, num_clusters: int) -> list[tuple[str, str]]:
    shuffled = _number(report.stability.shuffled)
    return [
        (str(report.num_utterances), "utterances"),
        (str(num_clusters), f"clusters by {report.algorithm}"),
        (f"{report.max_probability:.2f}", "mean largest probability"),
        (f"{report.entropy:.2f}", "normalised entropy of the soft labels"),
        (_number(report.stability.resamples), f"stability over samples (shuffled data: {shuffled})"),
        (_number(report.stability.seeds), "stability over seeds"),
        (_number(report.separation.silhouette), "silhouette, -1 to 1"),
        (_number(report.separation.davies_bouldin), "Davies-Bouldin, lower is better"),
    ]


def _clusters(report: Report) -> list[list[Any]]:
    splits = list(report.clusters[0].counts)
    most = max(sum(row.counts.values()) for row in report.clusters)
    return [
        [
            row.name,
            BarCell(sum(row.counts.values()) / most),
            *(str(row.counts[split]) for split in splits),
            _number(row.max_probability),
        ]
        for row in report.clusters
    ]


def _association(one: Association) -> list[Any]:
    kind = "measured" if one.is_nuisance else "bookkeeping" if one.is_bookkeeping else ""
    bar = BarCell(max(one.ami, 0), "nuisance" if one.is_nuisance else "")
    figures = (f"{one.ami:.2f}", f"{one.purity:.2f}", f"{one.chance_purity:.2f}", str(one.num_missing))
    return [NotedCell(with_unit(one.name), kind), bar, *figures]


def _candidates(report: Report) -> list[list[Any]]:
    most = max([*(one["eigengap"] for one in report.candidates), 1e-9])
    return [
        [str(one["num_experts"]), BarCell(one["eigengap"] / most), f"{one['eigengap']:.4f}", f"{one['stability']:.2f}"]
        for one in report.candidates
    ]


def _settings(report: Report) -> list[list[str]]:
    shown = {name: value for name, value in report.settings.items() if name != "hdbscan"}
    if report.settings["algorithm"] == "hdbscan":
        shown |= report.settings["hdbscan"]
    return [[name, str(value)] for name, value in shown.items()]


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"
