"""The ladder as a table in the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moe_lightning.evaluation.system_lines import counted


def print_ladder(results: dict[str, Any]) -> None:
    """Print trained parameters and WER with interval per system, over all seeds and by seed; the verdict."""
    table = Table(
        title=f"{results['metric']['name']} on the {results['split']} split, %",
        caption=f"{results['utterances']} utterances, {results['speakers']} speakers, {len(results['seeds'])} seeds;"
        " [95 % interval] by bootstrap over speakers; P: probability that the mixture is better; loops, silenced:"
        f" utterances of all seeds; texts normalised by {escape(results['normaliser']['name'])}",
    )
    table.add_column("system")
    for name in ("trained", results["metric"]["short"], "interval", "by seed", "P", "loops", "silenced"):
        table.add_column(name, justify="right")
    for name, system in results["systems"].items():
        comparison = results["comparisons"].get(f"mixture vs {name}", {})
        probability = comparison.get("probability_better")
        table.add_row(
            escape(system["label"]),
            f"{system['trained_parameters']:,}",
            f"{100 * system['rate']:.1f}",
            "-"
            if system["interval"] is None
            else "[{:.1f}, {:.1f}]".format(*(100 * one for one in system["interval"])),
            " ".join(f"{100 * one:.1f}" for one in system["rate_by_seed"]),
            "" if probability is None else f"{probability:.3f}",
            *(counted(system.get(count)) for count in ("loops", "silenced")),
            style="bold" if name == "mixture" else None,
        )
    console = Console(highlight=False, width=max(Console().width, 100))
    console.print(table)
    console.print("\n" + results["verdict"]["sentence"], markup=False, soft_wrap=True, style="bold")
    for detail in results["verdict"]["details"]:
        console.print(detail, markup=False, soft_wrap=True)
