"""Page sections from the run's files: routing, clusters, training, cost and settings."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from moe_lightning.evaluation.report.charts import line_chart
from moe_lightning.evaluation.report.curves import Chart
from moe_lightning.reports.html_page import bar_cell, cards, heat_map, picture, table

Results = Mapping[str, Any]


def routing_section(results: Results) -> str:
    """Distribution of the utterances over the experts, overall and by field."""
    experts = results.get("experts")
    if not experts:
        return ""
    most = max(*experts["usage"], *experts["weight"])
    rows = [
        [str(expert), bar_cell(share / most), f"{100 * share:.1f} %", f"{100 * weight:.1f} %"]
        for expert, (share, weight) in enumerate(zip(experts["usage"], experts["weight"], strict=True))
    ]
    dead = ", ".join(map(str, experts["dead"])) or "none"
    figures = [
        (str(len(rows)), "experts"),
        (f"{experts['entropy']:.2f}", "entropy of an utterance's mixture: 0 is one expert, 1 all alike"),
        (dead, "dead experts (under 0.5 % of the weight)"),
    ]
    maps = [
        f"<h3>experts by {escape(field)}</h3>\n"
        + heat_map(field, [f"expert {expert}" for expert in range(len(rows))], list(values.items()))
        for field, values in experts["by_field"].items()
    ]
    heads = ["expert", "", "utterances (likeliest expert)", "share of the gate's weight"]
    return f"<h2>Routing</h2>\n{cards(figures)}\n{table(heads, rows)}\n" + "\n".join(maps)


def cluster_section(report: Results | None, png: bytes | None, address: str) -> str:
    """The clustering's verdict and picture, with a link to its report.

    Args:
        report: Its ``report.json``; None if missing.
        address: Address of its page, relative to this one.
    """
    if report is None and png is None:
        return ""
    said = f"<p>{escape(report['verdict'])}</p>" if report else ""
    link = f'<p><a href="{escape(address)}">The report of the clusters</a> has the utterances one by one.</p>'
    shown = f'<div class="pictures">{picture("training utterances by cluster", png)}</div>' if png else ""
    return f"<h2>Clusters</h2>\n{said}{link if report else ''}{shown}"


def training_section(charts: Mapping[str, Sequence[Chart]]) -> str:
    """Curves of every trained stage."""
    if not charts:
        return ""
    parts = [
        f'<h3>{escape(stage)}</h3>\n<div class="charts">{"".join(map(line_chart, of_stage))}</div>'
        for stage, of_stage in charts.items()
    ]
    return "<h2>Training</h2>\n" + "\n".join(parts)


def cost_section(results: Results) -> str:
    """Parameters, seconds, memory, real-time factor."""
    rows = [
        [
            escape(name),
            *(f"{one[key]:,}" for key in ("parameters", "trained_parameters")),
            f"{one['seconds']:.1f}" if "seconds" in one else "-",
            f"{one['real_time_factor']:.4f}",
        ]
        for name, one in results["systems"].items()
        if "real_time_factor" in one
    ]
    stages = [
        [escape(stage), "-" if one["seconds"] is None else f"{one['seconds']:.0f}", escape(str(one["started"] or "-"))]
        for stage, one in results["environment"]["stages"].items()
    ]
    heads = ["system", "parameters", "trained", "seconds of decoding", "real-time factor"]
    of_stages = table(["stage", "seconds", "started"], stages)
    return f"<h2>Cost</h2>\n{table(heads, rows)}\n{_where_decoded(results.get('decoding'))}\n{of_stages}"


def _where_decoded(decoding: Results | None) -> str:
    if not decoding:
        return ""
    threads = "1 thread" if decoding["num_threads"] == 1 else f"{decoding['num_threads']} threads"
    said = (
        f"Decoded on {decoding['device']}, {threads}: {decoding['audio_seconds']:.0f} s of audio, peak memory"
        f" {decoding['memory_bytes'] / 2**30:.2f} GiB. The mixture's time has the embedding in it."
    )
    return f'<p class="soft">{escape(said)}</p>'


def snapshot_section(results: Results) -> str:
    """Versions, hardware, revision, seed, and every setting of every stage."""
    environment = results["environment"]
    facts = {
        "seed": environment["seed"],
        "git revision": environment["git_revision"] or "not a checkout",
        **environment["machine"],
        **environment["versions"],
    }
    parts = [
        f"<details><summary>{escape(stage)}: {len(one['settings'])} settings</summary>"
        f"{_settings(one['settings'])}</details>"
        for stage, one in environment["stages"].items()
    ]
    return f"<h2>Settings and environment</h2>\n{_settings(facts)}\n" + "\n".join(parts)


def _settings(values: Mapping[str, Any]) -> str:
    rows = [[escape(name), escape(_text(value))] for name, value in values.items()]
    return table(["setting", "value"], rows, text_columns=True)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
