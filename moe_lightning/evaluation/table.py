"""Results as a table in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moe_lightning.errors import printable
from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.system_lines import counted, group_name
from moe_lightning.evaluation.verdict import no_comparison
from moe_lightning.reports.results import Compared, Comparison, GroupScores, Results, SystemScores

Scores = GroupScores | SystemScores


def print_results(results: Results) -> None:
    """Print error rates of system and baseline with 95 % intervals, overall and by group; usage; the verdict."""
    comparison = results.headline
    console = Console(highlight=False, width=max(Console().width, 80))
    console.print(_table(results, comparison))
    usage = results.experts.usage
    if usage:
        shares = "  ".join(f"{expert}: {100 * share:.0f} %" for expert, share in enumerate(usage))
        console.print(f"utterances by expert   {shares}", soft_wrap=True)
    verdict = results.judged
    console.print("\n" + verdict.sentence, markup=False, soft_wrap=True, style="bold")
    for detail in verdict.details:
        console.print(detail, markup=False, soft_wrap=True)
    if results.left_out_without_words:
        console.print(f"{results.left_out_without_words} utterances without a word in their reference were left out.")


def _table(results: Results, comparison: Comparison) -> Table:
    system, baseline = (results.systems[name] for name in comparison.pair)
    over = system.interval_over
    table = Table(
        title=f"{results.metric.name} on the {results.split} split, %",
        caption=f"{results.utterances} utterances of {results.speakers} speakers; [95 % interval] and P, the"
        f" probability that {comparison.system} is better, by bootstrap over {over}; loops, silenced: utterances;"
        f" texts normalised by {escape(results.normaliser.name)}",
    )
    table.add_column("group")
    for name in (results.metric.units, comparison.baseline, comparison.system, "change", "P"):
        table.add_column(name, justify="right")
    is_compared = no_comparison(results, comparison.system, comparison.baseline) is None
    table.add_row("all", *_cells(baseline, system, comparison, is_compared), style="bold")
    for count, words in (("loops", "loops cut off"), ("silenced", "silenced")):
        table.add_row(f"  {words}", "", *(counted(getattr(one, count)) for one in (baseline, system)), "", "")
    fields = [*(["cluster"] if "cluster" in baseline.groups else []), *shown_fields(baseline.groups)]
    for field in fields:
        table.add_section()
        table.add_row(f"by {escape(printable(field))}", style="italic")
        for value, group in baseline.groups[field].items():
            cells = _cells(group, system.groups[field][value], comparison.groups[field][value], is_compared)
            table.add_row(f"  {escape(printable(group_name(value, group, baseline)))}", *cells)
    return table


def _cells(baseline: Scores, system: Scores, comparison: Compared, is_compared: bool) -> list[str]:
    before, after = baseline.rate, system.rate
    change = f"{100 * (after - before) / before:+.0f} %" if before and is_compared else "-"
    probability = comparison.probability_better if is_compared else None
    return [str(baseline.length), _rate(baseline), _rate(system), change, _probability(probability)]


def _probability(probability: float | None) -> str:
    """Never 1.00 for a probability below 1."""
    if probability is None:
        return "-"
    if 0.995 <= probability < 1:
        return ">.99"
    return "<.01" if 0 < probability < 0.005 else f"{probability:.2f}"


def _rate(group: Scores) -> str:
    """Rate and interval in percent: ``9.6 [8, 11]``."""
    if group.interval is None:
        return f"{100 * group.rate:.1f}"
    low, high = (100 * bound for bound in group.interval)
    return escape(f"{100 * group.rate:.1f} [{low:.0f}, {high:.0f}]")
