"""Results as a table on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

MAX_ROWS = 16
"""A field with more values (speakers, say) is in results.json, not in the table."""
MAX_FIELDS = 3
FIRST_FIELDS = ("etiology", "Etiology", "accent", "dialect", "population", "domain", "language", "gender", "age")
"""Fields that say what a group is, most telling first; they are shown before others."""


def print_results(results: dict[str, Any]) -> None:
    """WER of backbone and mixture, overall and by group, and the share of utterances of each expert."""
    backbone, mixture = results["systems"]["backbone"], results["systems"]["mixture"]
    table = Table(title="word error rate on the test split, %")
    for name, justify in (("group", "left"), ("words", "right"), ("backbone", "right"), ("mixture", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("change", justify="right")
    table.add_row("all", str(backbone["words"]), *_rates(backbone, mixture), style="bold")
    for field in shown_fields(backbone["groups"]):
        table.add_section()
        for value, errors in backbone["groups"][field].items():
            other = mixture["groups"][field][value]
            table.add_row(f"{field} {value}", str(errors["words"]), *_rates(errors, other))
    console = Console()
    console.print(table)
    shares = "  ".join(f"{expert}: {100 * share:.0f} %" for expert, share in enumerate(results["experts"]["usage"]))
    console.print(f"test utterances by expert   {shares}", highlight=False)


def shown_fields(groups: dict[str, Any]) -> list[str]:
    """The clusters and the three most telling fields; the rest is in results.json."""
    short = [field for field, values in groups.items() if field != "cluster" and len(values) <= MAX_ROWS]
    ranks = {field: rank for rank, field in enumerate(FIRST_FIELDS)}
    short.sort(key=lambda field: (ranks.get(field, len(ranks)), len(groups[field])))
    return ["cluster", *short[:MAX_FIELDS]]


def _rates(backbone: dict[str, Any], mixture: dict[str, Any]) -> tuple[str, str, str]:
    """Both rates, and the relative change of the mixture."""
    before, after = backbone["wer"], mixture["wer"]
    change = f"{100 * (after - before) / before:+.0f} %" if before else "-"
    return f"{100 * before:.1f}", f"{100 * after:.1f}", change
