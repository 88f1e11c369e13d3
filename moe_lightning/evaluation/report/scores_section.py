"""Verdict, systems, and groups of the page."""

from collections.abc import Mapping
from html import escape
from typing import Any

from moe_lightning.evaluation.fields import DURATION, MOST_VALUES, shown_fields
from moe_lightning.evaluation.report.charts import Bar, Dots, bars, dot_plot
from moe_lightning.evaluation.verdict import label
from moe_lightning.html_page import cards, table, verdict

Results = Mapping[str, Any]


def head_section(results: Results) -> str:
    """The verdict, what must be known beside it, and the figures that it rests on."""
    comparison = next(iter(results["comparisons"].values()))
    system = results["systems"][comparison["system"]]
    said = results["verdict"]
    details = "".join(f"<li>{escape(text)}</li>" for text in said["details"])
    figures = [
        (f"{100 * system['wer']:.1f} %", f"word error rate of {label(comparison['system'])}"),
        (_improvement(comparison), f"fewer errors than {label(comparison['baseline'])}"),
        (_probability(comparison["probability_better"]), "probability that it is better"),
        (f"{100 * system['cer']:.1f} %", "character error rate"),
        (str(results["utterances"]), f"utterances of {results['speakers']} speakers"),
        (str(system["words"]), f"words of the {results['split']} split"),
    ]
    return (
        "<h1>Does the mixture help?</h1>\n"
        f"{verdict(said['sentence'], said['is_warning'])}\n<ul>{details}</ul>\n{cards(figures)}\n"
        f'<p class="soft">Intervals hold with 95 %: the bootstrap draws {escape(comparison["over"])} with replacement,'
        f" {results['bootstrap']['num_resamples']} times (Bisani and Ney 2004). The probability is the share of draws"
        f" in which the system makes fewer errors. Texts are normalised: {escape(results['normaliser'])}."
        f"{_left_out(results)}</p>"
    )


def systems_section(results: Results) -> str:
    """Every system as a bar with its interval, and its numbers."""
    headline = next(iter(results["comparisons"].values()))["system"]
    rows = [
        Bar(name, one["wer"], one["interval"], _parameters(one), name == headline)
        for name, one in results["systems"].items()
    ]
    numbers = [
        [
            escape(name),
            *(f"{100 * one[key]:.1f}" for key in ("wer", "cer")),
            *(str(one[key]) for key in ("substitutions", "deletions", "insertions")),
            *(f"{100 * one['raw'][key]:.1f}" for key in ("wer", "cer")),
        ]
        for name, one in results["systems"].items()
    ]
    heads = ["system", "WER %", "CER %", "substituted", "deleted", "inserted", "raw WER %", "raw CER %"]
    return f"<h2>Systems</h2>\n{bars(rows)}\n{table(heads, numbers)}\n{_comparison_table(results)}"


def groups_section(results: Results) -> str:
    """Each group before and after, and which is served worst."""
    comparison = next(iter(results["comparisons"].values()))
    before, after = (results["systems"][comparison[side]] for side in ("baseline", "system"))
    fields = shown_fields(before["groups"])
    fields += [field for field in (DURATION, "cluster") if 2 <= len(before["groups"].get(field, {})) <= MOST_VALUES]
    if not fields:
        return ""
    parts = [
        "<h2>Groups</h2>\n"
        f"<p>Word error rate: the empty dot is {escape(label(comparison['baseline']))}, the full one"
        f" {escape(label(comparison['system']))} with its interval; orange where it got worse.</p>"
    ]
    for field in fields:
        rows = [
            Dots(value, group["wer"], after["groups"][field][value]["wer"], after["groups"][field][value]["interval"],
                 f"{group['words']} words, {group['speakers']} speakers")
            for value, group in before["groups"][field].items()
        ]  # fmt: skip
        parts.append(f"<h3>{escape(field)}</h3>\n{dot_plot(rows)}{_worst(field, before, after)}")
    return "\n".join(parts)


def _comparison_table(results: Results) -> str:
    rows = []
    for comparison in results["comparisons"].values():
        by_utterance = comparison["over_utterances"]
        rows.append([
            escape(comparison["system"]), escape(comparison["baseline"]),
            _improvement(comparison), _interval(comparison.get("interval")),
            _probability(comparison["probability_better"]),
            _interval(by_utterance["interval"]), _probability(by_utterance["probability_better"]),
        ])  # fmt: skip
    over = next(iter(results["comparisons"].values()))["over"]
    heads = ["system", "against", "fewer errors", f"95 %, over {over}", "probability", "95 %, over utterances",
             "probability"]  # fmt: skip
    return "<h3>Comparisons</h3>\n" + table(heads, rows)


def _worst(field: str, before: Results, after: Results) -> str:
    first, then = before["worst_group"][field], after["worst_group"][field]
    return (
        f'<p class="soft">Worst: {escape(field)} {escape(first["value"])} with {100 * first["wer"]:.1f} % before,'
        f" {escape(then['value'])} with {100 * then['wer']:.1f} % after. Spread between groups:"
        f" {100 * before['spread'][field]:.1f} before, {100 * after['spread'][field]:.1f} after.</p>"
    )


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
