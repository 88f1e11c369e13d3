"""Page sections from the run's files: routing, training, cost and settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from moe_lightning.reports.charts import line_chart
from moe_lightning.reports.curves import Chart
from moe_lightning.reports.pages import Bar

Results = Mapping[str, Any]


def routing_section(results: Results) -> dict[str, Any]:
    """Distribution of the utterances over the experts, overall and by field."""
    experts = results.get("experts")
    if not experts:
        return {}
    most = max(*experts["usage"], *experts["weight"])
    shares = list(zip(experts["usage"], experts["weight"], strict=True))
    figures = [
        (str(len(shares)), "experts"),
        (f"{experts['entropy']:.2f}", "entropy of an utterance's mixture: 0 is one expert, 1 all alike"),
        (", ".join(map(str, experts["dead"])) or "none", "dead experts (under 0.5 % of the weight)"),
    ]
    return {
        "figures": figures,
        "rows": [
            [str(expert), Bar(share / most), f"{100 * share:.1f} %", f"{100 * weight:.1f} %"]
            for expert, (share, weight) in enumerate(shares)
        ],
        "experts": [f"expert {expert}" for expert in range(len(shares))],
        "fields": [(field, list(values.items())) for field, values in experts["by_field"].items()],
    }


def training_section(charts: Mapping[str, Sequence[Chart]]) -> list[tuple[str, list[str]]]:
    """Curves of every trained stage."""
    return [(stage, [line_chart(chart) for chart in of_stage]) for stage, of_stage in charts.items()]


def cost_section(results: Results) -> dict[str, Any]:
    """Parameters, seconds, memory, real-time factor."""
    systems = [
        [
            name,
            *(f"{one[key]:,}" for key in ("parameters", "trained_parameters")),
            f"{one['seconds']:.1f}" if "seconds" in one else "-",
            f"{one['real_time_factor']:.4f}",
        ]
        for name, one in results["systems"].items()
        if "real_time_factor" in one
    ]
    stages = [
        [stage, "-" if one["seconds"] is None else f"{one['seconds']:.0f}", str(one["started"] or "-")]
        for stage, one in results["environment"]["stages"].items()
    ]
    return {"systems": systems, "where": _where_decoded(results.get("decoding")), "stages": stages}


def _where_decoded(decoding: Results | None) -> str:
    if not decoding:
        return ""
    threads = "1 thread" if decoding["num_threads"] == 1 else f"{decoding['num_threads']} threads"
    return (
        f"Decoded on {decoding['device']}, {threads}: {decoding['audio_seconds']:.0f} s of audio, peak memory"
        f" {decoding['memory_bytes'] / 2**30:.2f} GiB. The mixture's time has the embedding in it."
    )


def environment_section(results: Results) -> dict[str, Any]:
    """Versions, hardware, revision, seed, and every setting of every stage."""
    environment = results["environment"]
    facts = {
        "seed": environment["seed"],
        "git revision": environment["git_revision"] or "not a checkout",
        **environment["machine"],
        **environment["versions"],
    }
    stages = [(stage, _rows(one["settings"])) for stage, one in environment["stages"].items()]
    return {"facts": _rows(facts), "stages": stages}


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[name, f"{value:g}" if isinstance(value, float) else str(value)] for name, value in values.items()]
