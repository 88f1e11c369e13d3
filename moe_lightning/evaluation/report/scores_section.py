"""Verdict and systems sections of the page."""

from collections.abc import Mapping
from typing import Any

from moe_lightning.evaluation.doubts import no_comparison
from moe_lightning.evaluation.system_lines import COLUMNS, shown_columns, system_lines
from moe_lightning.evaluation.system_names import called
from moe_lightning.reports.charts import Bar, bars
from moe_lightning.reports.pages import Left

Results = Mapping[str, Any]


def head_section(results: Results) -> dict[str, Any]:
    """The verdict with its remarks, and the figures behind it."""
    comparison = next(iter(results["comparisons"].values()))
    system, metric = results["systems"][comparison["system"]], results["metric"]
    figures = [
        (f"{100 * system['rate']:.1f} %", f"{metric['name']} of {called(results, comparison['system'])}"),
        *(_claims(results, comparison)),
        (f"{100 * system['cer']:.1f} %", "character error rate, spaces counted where the language has them"),
        (str(results["utterances"]), f"utterances of {results['speakers']} speakers"),
        (str(system["length"] // num_seeds_of(results)), f"{metric['units']} of the {results['split']} split"),
    ]
    return {
        **results["verdict"],
        "figures": figures,
        "over": comparison["over"],
        "num_resamples": results["bootstrap"]["num_resamples"],
        "normaliser": results["normaliser"]["name"],
        "left_out": _left_out(results),
    }


def _claims(results: Results, comparison: Results) -> list[tuple[str, str]]:
    """Figures of a comparison; none if the systems cannot be compared."""
    if no_comparison(results, comparison["system"], comparison["baseline"]):
        return []
    return [
        (_improvement(comparison), f"fewer errors than {called(results, comparison['baseline'])}"),
        (_probability(comparison["probability_better"]), "probability that it is better"),
    ]


def systems_section(results: Results) -> dict[str, Any]:
    """Every system as a bar with its interval, and its numbers."""
    headline = next(iter(results["comparisons"].values()))["system"]
    rows = [
        Bar(called(results, name).removeprefix("the "), one["rate"], one["interval"], _parameters(one),
            name == headline, tuple(one.get("rate_by_seed", ())))
        for name, one in results["systems"].items()
    ]  # fmt: skip
    lines = system_lines(results)
    columns = shown_columns(COLUMNS, lines)
    return {
        "bars": bars(rows),
        "num_seeds": num_seeds_of(results),
        "heads": ["system", *(column.head for column in columns)],
        "rows": [[line.name, *(column.cell(line) for column in columns)] for line in lines],
        "comparisons": _comparisons(results),
    }


def _comparisons(results: Results) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for comparison in results["comparisons"].values():
        if no_comparison(results, comparison["system"], comparison["baseline"]):
            continue
        by_utterance = comparison["over_utterances"]
        rows.append([
            called(results, comparison["system"]).removeprefix("the "),
            Left(called(results, comparison["baseline"]).removeprefix("the ")),
            _improvement(comparison), _interval(comparison.get("interval")),
            _probability(comparison["probability_better"]),
            _interval(by_utterance["interval"]), _probability(by_utterance["probability_better"]),
        ])  # fmt: skip
    return rows


def num_seeds_of(results: Results) -> int:
    """Number of trainings per system that were scored together, on the same utterances."""
    return len(results.get("seeds", [])) or 1


def _parameters(system: Results) -> str:
    trained = system.get("trained_parameters")
    return "" if trained is None else f"{trained:,} trained" if trained else "nothing trained"


def _left_out(results: Results) -> str:
    count = results["left_out_without_words"]
    return f" {count} utterances whose reference has no word were left out." if count else ""


def _improvement(comparison: Results) -> str:
    change = comparison.get("relative_improvement")
    return "-" if change is None else f"{100 * change:.1f} %"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _probability(probability: float | None) -> str:
    if probability is None:
        return "-"
    return f"{probability:.3f}" if probability in (0.0, 1.0) else f"{min(max(probability, 0.001), 0.999):.3f}"
