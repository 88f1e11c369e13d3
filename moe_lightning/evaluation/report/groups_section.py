"""Groups section of the page: each group before and after, and the worst one."""

from collections.abc import Mapping
from typing import Any

from moe_lightning.evaluation.fields import DURATION, MOST_VALUES, shown_fields
from moe_lightning.evaluation.report.scores_section import num_seeds_of
from moe_lightning.evaluation.system_lines import group_name
from moe_lightning.evaluation.system_names import called
from moe_lightning.reports.charts import Dots, dot_plot

Results = Mapping[str, Any]


def groups_section(results: Results) -> dict[str, Any]:
    """A dot plot per informative field: bare backbone, the headline's system, and its baseline if different."""
    comparison = next(iter(results["comparisons"].values()))
    first = "backbone" if "backbone" in results["systems"] else comparison["baseline"]
    other = comparison["baseline"] if comparison["baseline"] != first else None
    before, after = results["systems"][first], results["systems"][comparison["system"]]
    fields = shown_fields(before["groups"])
    fields += [field for field in (DURATION, "cluster") if 2 <= len(before["groups"].get(field, {})) <= MOST_VALUES]
    if not fields:
        return {}
    metric = results["metric"]["name"]
    third = f", the diamond {called(results, other)}" if other else ""
    said = (
        f"{metric[:1].upper()}{metric[1:]}: the empty dot is {called(results, first)}, the full one"
        f" {called(results, comparison['system'])} with its interval{third}; orange where it got worse."
    )
    shown = []
    for field in fields:
        third_system = results["systems"][other] if other else None
        plot = dot_plot(_rows(field, before, after, third_system, num_seeds_of(results)))
        shown.append({"name": field, "plot": plot, "worst": _worst(field, before, after)})
    return {"explanation": said, "fields": shown}


def _rows(field: str, before: Results, after: Results, other: Results | None, num_seeds: int) -> list[Dots]:
    return [
        Dots(
            name=group_name(value, group, before),
            before=group["rate"],
            after=after["groups"][field][value]["rate"],
            interval=after["groups"][field][value]["interval"],
            note=f"{group['utterances'] // num_seeds} utterances, {group['speakers']} speakers",
            other=other["groups"][field][value]["rate"] if other else None,
        )
        for value, group in before["groups"][field].items()
    ]


def _worst(field: str, before: Results, after: Results) -> str:
    first, then = before["worst_group"][field], after["worst_group"][field]
    return (
        f"Worst: {field} {first['value']} with {100 * first['rate']:.1f} % before, {then['value']} with"
        f" {100 * then['rate']:.1f} % after. Spread between groups: {100 * before['spread'][field]:.1f} before,"
        f" {100 * after['spread'][field]:.1f} after."
    )
