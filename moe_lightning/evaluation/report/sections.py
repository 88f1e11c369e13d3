"""Contents of the sections of an evaluation's page."""

from collections.abc import Mapping, Sequence
from typing import Any

from moe_lightning.evaluation.fields import DURATION, MOST_VALUES, shown_fields
from moe_lightning.evaluation.system_lines import COLUMNS, called, group_name, system_table
from moe_lightning.evaluation.verdict import no_comparison
from moe_lightning.reports.charts import Bar, Dots, bars, dot_plot, line_chart
from moe_lightning.reports.curves import Chart
from moe_lightning.reports.pages import BarCell, LeftCell
from moe_lightning.reports.results import Comparison, Decoding, Results, SystemScores


def head_section(results: Results) -> dict[str, Any]:
    """The verdict with its remarks, and the figures behind it."""
    comparison = results.headline
    system, metric = results.systems[comparison.system], results.metric
    figures = [
        (f"{100 * system.rate:.1f} %", f"{metric.name} of {called(results, comparison.system)}"),
        *(_claims(results, comparison)),
        (f"{100 * system.cer:.1f} %", "character error rate, spaces counted where the language has them"),
        (str(results.utterances), f"utterances of {results.speakers} speakers"),
        (str(system.length // results.num_seeds), f"{metric.units} of the {results.split} split"),
    ]
    return {
        **results.judged._asdict(),
        "figures": figures,
        "over": comparison.over,
        "num_resamples": results.bootstrap.num_resamples,
        "normaliser": results.normaliser.name,
        "left_out": _left_out(results),
    }


def _claims(results: Results, comparison: Comparison) -> list[tuple[str, str]]:
    """Figures of a comparison; none if the systems cannot be compared."""
    if no_comparison(results, comparison.system, comparison.baseline):
        return []
    return [
        (_improvement(comparison), f"fewer errors than {called(results, comparison.baseline)}"),
        (_probability(comparison.probability_better), "probability that it is better"),
    ]


def systems_section(results: Results) -> dict[str, Any]:
    """Every system as a bar with its interval, and its numbers."""
    headline = results.headline.system
    rows = [
        Bar(called(results, name).removeprefix("the "), one.rate, one.interval, _parameters(one),
            name == headline, tuple(one.rate_by_seed or ()))
        for name, one in results.systems.items()
    ]  # fmt: skip
    heads, table = system_table(results, COLUMNS)
    return {
        "bars": bars(rows),
        "num_seeds": results.num_seeds,
        "heads": heads,
        "rows": table,
        "comparisons": _comparisons(results),
    }


def _comparisons(results: Results) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for comparison in results.comparisons.values():
        if no_comparison(results, comparison.system, comparison.baseline):
            continue
        by_utterance = comparison.over_utterances
        rows.append([
            called(results, comparison.system).removeprefix("the "),
            LeftCell(called(results, comparison.baseline).removeprefix("the ")),
            _improvement(comparison), _interval(comparison.interval),
            _probability(comparison.probability_better),
            _interval(by_utterance.interval), _probability(by_utterance.probability_better),
        ])  # fmt: skip
    return rows


def _parameters(system: SystemScores) -> str:
    trained = system.trained_parameters
    return "" if trained is None else f"{trained:,} trained" if trained else "nothing trained"


def _left_out(results: Results) -> str:
    count = results.left_out_without_words
    return f" {count} utterances whose reference has no word were left out." if count else ""


def _improvement(comparison: Comparison) -> str:
    change = comparison.relative_improvement
    return "-" if change is None else f"{100 * change:.1f} %"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _probability(probability: float | None) -> str:
    if probability is None:
        return "-"
    return f"{probability:.3f}" if probability in (0.0, 1.0) else f"{min(max(probability, 0.001), 0.999):.3f}"


def groups_section(results: Results) -> dict[str, Any]:
    """A dot plot per informative field: bare backbone, the headline's system, and its baseline if different."""
    comparison = results.headline
    first = "backbone" if "backbone" in results.systems else comparison.baseline
    other = comparison.baseline if comparison.baseline != first else None
    before, after = results.systems[first], results.systems[comparison.system]
    fields = shown_fields(before.groups)
    fields += [field for field in (DURATION, "cluster") if 2 <= len(before.groups.get(field, {})) <= MOST_VALUES]
    if not fields:
        return {}
    metric = results.metric.name
    third = f", the diamond {called(results, other)}" if other else ""
    said = (
        f"{metric[:1].upper()}{metric[1:]}: the empty dot is {called(results, first)}, the full one"
        f" {called(results, comparison.system)} with its interval{third}; orange where it got worse."
    )
    shown = []
    for field in fields:
        third_system = results.systems[other] if other else None
        plot = dot_plot(_dots(field, before, after, third_system, results.num_seeds))
        shown.append({"name": field, "plot": plot, "worst": _worst(field, before, after)})
    return {"explanation": said, "fields": shown}


def _dots(
    field: str, before: SystemScores, after: SystemScores, other: SystemScores | None, num_seeds: int
) -> list[Dots]:
    return [
        Dots(
            name=group_name(value, group, before),
            before=group.rate,
            after=after.groups[field][value].rate,
            interval=after.groups[field][value].interval,
            note=f"{group.utterances // num_seeds} utterances, {group.speakers} speakers",
            other=other.groups[field][value].rate if other else None,
        )
        for value, group in before.groups[field].items()
    ]


def _worst(field: str, before: SystemScores, after: SystemScores) -> str:
    first, then = before.worst_group[field], after.worst_group[field]
    return (
        f"Worst: {field} {first.value} with {100 * first.rate:.1f} % before, {then.value} with"
        f" {100 * then.rate:.1f} % after. Spread between groups: {100 * before.spread[field]:.1f} before,"
        f" {100 * after.spread[field]:.1f} after."
    )


def routing_section(results: Results) -> dict[str, Any]:
    """Distribution of the utterances over the experts, overall and by field."""
    experts = results.experts
    if not experts.usage:
        return {}
    most = max(*experts.usage, *experts.weight)
    shares = list(zip(experts.usage, experts.weight, strict=True))
    figures = [
        (str(len(shares)), "experts"),
        (f"{experts.entropy:.2f}", "entropy of an utterance's mixture: 0 is one expert, 1 all alike"),
        (", ".join(map(str, experts.dead)) or "none", "dead experts (under 0.5 % of the weight)"),
    ]
    return {
        "figures": figures,
        "rows": [
            [str(expert), BarCell(share / most), f"{100 * share:.1f} %", f"{100 * weight:.1f} %"]
            for expert, (share, weight) in enumerate(shares)
        ],
        "experts": [f"expert {expert}" for expert in range(len(shares))],
        "fields": [(field, list(values.items())) for field, values in experts.by_field.items()],
    }


def training_section(charts: Mapping[str, Sequence[Chart]]) -> list[tuple[str, list[str]]]:
    """Curves of every trained stage."""
    return [(stage, [line_chart(chart) for chart in of_stage]) for stage, of_stage in charts.items()]


def cost_section(results: Results) -> dict[str, Any]:
    """Parameters, seconds, memory, real-time factor."""
    systems = [
        [
            name,
            f"{one.parameters:,}",
            f"{one.trained_parameters:,}",
            "-" if one.seconds is None else f"{one.seconds:.1f}",
            f"{one.real_time_factor:.4f}",
        ]
        for name, one in results.systems.items()
        if one.real_time_factor is not None
    ]
    stages = [
        [stage, "-" if one.seconds is None else f"{one.seconds:.0f}", str(one.started or "-")]
        for stage, one in results.environment.stages.items()
    ]
    return {"systems": systems, "where": _where_decoded(results.decoding), "stages": stages}


def _where_decoded(decoding: Decoding | None) -> str:
    if not decoding:
        return ""
    threads = "1 thread" if decoding.num_threads == 1 else f"{decoding.num_threads} threads"
    return (
        f"Decoded on {decoding.device}, {threads}: {decoding.audio_seconds:.0f} s of audio, peak memory"
        f" {decoding.memory_bytes / 2**30:.2f} GiB. The mixture's time has the embedding in it."
    )


def environment_section(results: Results) -> dict[str, Any]:
    """Versions, hardware, revision, seed, and every setting of every stage."""
    environment = results.environment
    facts = {
        "seed": environment.seed,
        "git revision": environment.git_revision or "not a checkout",
        **environment.machine,
        **environment.versions,
    }
    stages = [(stage, _rows(one.settings)) for stage, one in environment.stages.items()]
    return {"facts": _rows(facts), "stages": stages}


def _rows(values: Mapping[str, Any]) -> list[list[str]]:
    return [[name, f"{value:g}" if isinstance(value, float) else str(value)] for name, value in values.items()]
