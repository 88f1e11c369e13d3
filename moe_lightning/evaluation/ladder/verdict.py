"""The ladder's table, and its verdict in words."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moe_lightning.evaluation.system_lines import counted
from moe_lightning.evaluation.usage import DEAD_BELOW
from moe_lightning.evaluation.verdict import (
    WorseGroup,
    answer_of,
    answer_to,
    figures_in_words,
    gate_in_words,
    groups_worse,
    has_few_speakers,
    has_many_figures,
    no_comparison,
    nothing_established,
)
from moe_lightning.reports.results import Comparison, Results, Verdict


def print_ladder(results: Results) -> None:
    """Print trained parameters and WER with interval per system, over all seeds and by seed; the verdict."""
    table = Table(
        title=f"{results.metric.name} on the {results.split} split, %",
        caption=f"{results.utterances} utterances, {results.speakers} speakers, {results.num_seeds} seeds;"
        " [95 % interval] by bootstrap over speakers; P: probability that the mixture is better; loops, silenced:"
        f" utterances of all seeds; texts normalised by {escape(results.normaliser.name)}",
    )
    table.add_column("system")
    for name in ("trained", results.metric.short, "interval", "by seed", "P", "loops", "silenced"):
        table.add_column(name, justify="right")
    for name, system in results.systems.items():
        comparison = results.comparisons.get(f"mixture vs {name}")
        probability = comparison.probability_better if comparison else None
        table.add_row(
            escape(system.label or name),
            f"{system.trained_parameters:,}",
            f"{100 * system.rate:.1f}",
            "-" if system.interval is None else "[{:.1f}, {:.1f}]".format(*(100 * one for one in system.interval)),
            " ".join(f"{100 * one:.1f}" for one in system.rate_by_seed or ()),
            "" if probability is None else f"{probability:.3f}",
            *(counted(getattr(system, count)) for count in ("loops", "silenced")),
            style="bold" if name == "mixture" else None,
        )
    console = Console(highlight=False, width=max(Console().width, 100))
    console.print(table)
    console.print("\n" + results.judged.sentence, markup=False, soft_wrap=True, style="bold")
    for detail in results.judged.details:
        console.print(detail, markup=False, soft_wrap=True)


_WRITERS = ("backbone", "lora_equal", "mixture")
"""Systems whose figures for words are counted."""
_VERBS = {
    "better": "The mixture beats {}",
    "worse": "The mixture is worse than {}",
    "not established": "It is not established that the mixture differs from {}",
}


def judge_ladder(results: Results) -> Verdict:
    """Verdict on the mixture against one LoRA of equal parameters, with explanations from the other systems."""
    answer = answer_to(results, results.comparisons["mixture vs lora_equal"])
    doubt = no_comparison(results, "mixture", "backbone")
    worse = [] if doubt else groups_worse(results, results.comparisons["mixture vs backbone"])
    dead = results.experts.dead
    others = {"random": "clusters drawn at random", "hard": "one expert an utterance"}
    details = [
        _seeds(results),
        *(against(results, name, words) for name, words in others.items() if name in results.systems),
        *_oracles(results),
        _dead(dead, len(results.experts.usage)),
        doubt or _groups(worse),
        figures_in_words(results, _WRITERS),
        gate_in_words(results),
    ]
    sentence = against(results, "lora_equal", "one LoRA of equal parameters")
    surely_worse = [one for one in worse if one.is_sure]
    is_warning = answer != "better" or bool(dead or surely_worse) or has_many_figures(results, _WRITERS)
    return Verdict(answer, sentence, is_warning, [text for text in details if text])


def against(results: Results, baseline: str, words: str) -> str:
    """One comparison of the mixture: both rates, the change with its interval, the probability."""
    reason = no_comparison(results, "mixture", baseline)
    if reason:
        return reason
    comparison = results.comparisons[f"mixture vs {baseline}"]
    ours, theirs = (100 * results.systems[name].rate for name in ("mixture", baseline))
    units, probability = results.metric.units, comparison.probability_better
    if probability is None:
        return f"The mixture has {ours:.1f} % of the {units} wrong, {words} {theirs:.1f} %; one utterance says no more."
    if has_few_speakers(results):
        verb = f"{nothing_established(results)} of the mixture and {words}"
    else:
        verb = _VERBS[answer_of(results, probability)].format(words)
    return (
        f"{verb}: {ours:.1f} % of the {units} wrong against {theirs:.1f} %{_change(comparison)};"
        f" probability of being better {probability:.3f}."
    )


def recovered(results: Results, oracle: str) -> float | None:
    """Share of an oracle's lead over the LoRA of equal parameters that the mixture reaches; None without a lead."""
    rate = {name: results.systems[name].rate for name in ("lora_equal", "mixture", oracle)}
    lead = rate["lora_equal"] - rate[oracle]
    return (rate["lora_equal"] - rate["mixture"]) / lead if lead > 0 else None


def _oracles(results: Results) -> list[str]:
    lines = []
    for oracle, words in (("label", "the true groups, known in tests"), ("best_expert", "the best expert each time")):
        if oracle not in results.systems:
            continue
        share, rate = recovered(results, oracle), 100 * results.systems[oracle].rate
        lines.append(f"Oracle, {words}: {rate:.1f} %; {_lead_in_words(share)}.")
    return lines


def _lead_in_words(share: float | None) -> str:
    if share is None:
        return "it does not lead the LoRA"
    if share <= 0:
        return "the mixture reaches none of its lead over the LoRA"
    return f"the mixture reaches {100 * share:.0f} % of its lead over the LoRA"


def _seeds(results: Results) -> str:
    if results.num_seeds == 1:
        return "One seed: how much another would differ is not known."
    spreads = []
    for name, words in (("mixture", "the mixture"), ("lora_equal", "the LoRA")):
        values = results.systems[name].rate_by_seed or [results.systems[name].rate]
        spreads.append(f"{words} {100 * min(values):.1f} to {100 * max(values):.1f} %")
    return f"Over {results.num_seeds} seeds: {', '.join(spreads)}."


def _dead(dead: Sequence[int], num_experts: int) -> str:
    if not dead:
        return f"All {num_experts} experts are used."
    return f"Dead experts: {', '.join(map(str, dead))} of {num_experts} get under {100 * DEAD_BELOW:g} % of the weight."


def _groups(worse: list[WorseGroup]) -> str:
    if not worse:
        return "No group gets worse than with the bare backbone."
    some = "; ".join(
        f"{one.field} {one.value} {100 * one.before:.1f} to {100 * one.after:.1f} %"
        + ("" if one.is_sure else " (not established)")
        for one in worse[:4]
    )
    return f"Worse than with the bare backbone: {some}{'; and more' if len(worse) > 4 else ''}."


def _change(comparison: Comparison) -> str:
    improvement, bounds = comparison.relative_improvement, comparison.interval
    if improvement is None or bounds is None:
        return ""
    low, high = (100 * bound for bound in bounds)
    values = [round(value, 1) + 0.0 for value in (-100 * improvement, -high, -low)]  # never "-0.0"
    return ", {:+.1f} % errors (95 % interval {:+.1f} to {:+.1f} %)".format(*values)
