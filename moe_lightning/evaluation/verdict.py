"""What the scores say, in plain words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.usage import DEAD_BELOW

SURE = 0.95
"""Probability from which on a difference is called established."""
FEW_SPEAKERS = 5
_LABELS = {"backbone": "the bare backbone", "mixture": "the mixture"}


class Verdict(NamedTuple):
    """A sentence that answers the question, and what one must know beside it."""

    sentence: str
    is_warning: bool
    """The answer is not yes, or it has a catch."""
    details: list[str]


def judge(results: dict[str, Any]) -> Verdict:
    """Whether the system of the first comparison beats its baseline, for whom not, and how sure that is."""
    headline = next(iter(results["comparisons"].values()))
    sentence = headline_sentence(results, headline)
    worse = groups_worse(results, headline)
    dead = results.get("experts", {}).get("dead", [])
    details = [_groups_in_words(results, headline, worse), *_experts_in_words(results, dead), gate_in_words(results)]
    if results["speakers"] < FEW_SPEAKERS:
        details.append(
            f"The test split has {_counted(results['speakers'], 'speaker')}; others may be served differently."
        )
    if results.get("shared_speakers"):
        count, was = (
            _counted(results["shared_speakers"], "speaker"),
            "was" if results["shared_speakers"] == 1 else "were",
        )
        details.append(f"{count} of the test split {was} heard in training: new voices will have more errors.")
    is_better = (headline["probability_better"] or 0.0) >= SURE
    surely_worse = [one for one in worse if one.is_sure]
    return Verdict(sentence, not is_better or bool(surely_worse or dead), [text for text in details if text])


def gate_in_words(results: Mapping[str, Any]) -> str:
    """What one must know of a gate that heard more than an utterance; "" of one that did not."""
    if results.get("decoding", {}).get("gate_by") != "speaker":
        return ""
    return (
        "The gate heard all that a test speaker says before it chose experts; --gate-by utterance decodes each"
        " utterance by itself."
    )


def label(system: str) -> str:
    """A system as a sentence calls it."""
    return _LABELS.get(system, system)


def called(results: Mapping[str, Any], system: str) -> str:
    """A system as the results name it, else as a sentence does."""
    return str(results["systems"][system].get("label") or label(system))


def headline_sentence(results: dict[str, Any], comparison: dict[str, Any]) -> str:
    """Both rates, the relative change with its interval, and the probability."""
    system, baseline = comparison["system"], comparison["baseline"]
    rates = {name: f"{100 * results['systems'][name]['wer']:.1f} %" for name in (system, baseline)}
    name, other = called(results, system), called(results, baseline)
    probability = comparison["probability_better"]
    if probability is None:
        return f"One utterance says nothing: {name} {rates[system]}, {other} {rates[baseline]}."
    if comparison["relative_improvement"] == 0 and not any(comparison["interval"] or [1.0]):
        return (
            f"It is not established that {name} beats {other}: both get {rates[system]} of the words wrong, and"
            f" as many in every draw of {comparison['over']}."
        )
    against = f"{rates[system]} of the words are wrong instead of {rates[baseline]}"
    change, over = _change_in_words(comparison), comparison["over"]
    draws = f"in {_percent(probability)} of the draws of {over} it makes fewer errors"
    if probability >= SURE:
        return f"{_capitalised(name)} beats {other}: {against}{change}; {draws}."
    if probability <= 1 - SURE:
        return f"{_capitalised(name)} is worse than {other}: {against}{change}; {draws}."
    return f"It is not established that {name} beats {other}: {against}{change}; {draws}."


class WorseGroup(NamedTuple):
    """A group that a system serves worse than the baseline does."""

    field: str
    value: str
    before: float
    after: float
    is_sure: bool


def groups_worse(results: dict[str, Any], comparison: dict[str, Any]) -> list[WorseGroup]:
    """Groups of the most telling fields with more errors than before, the largest loss first."""
    systems = results["systems"]
    before, after = (systems[comparison[side]]["groups"] for side in ("baseline", "system"))
    found = []
    for field in shown_fields(before):
        for value, group in before[field].items():
            now = after[field][value]["wer"]
            probability = comparison["groups"][field][value]["probability_better"]
            if now > group["wer"]:
                is_sure = probability is not None and probability <= 1 - SURE
                found.append(WorseGroup(field, value, group["wer"], now, is_sure))
    return sorted(found, key=lambda one: one.before - one.after)


def _groups_in_words(results: dict[str, Any], comparison: dict[str, Any], worse: list[WorseGroup]) -> str:
    groups = results["systems"][comparison["baseline"]]["groups"]
    fields = shown_fields(groups)
    if not fields:
        return ""
    count = sum(len(groups[field]) for field in fields)
    of = f"{count} groups by {' and '.join(fields)}"
    if not worse:
        return f"None of the {of} gets worse."
    some = "; ".join(
        f"{one.field} {one.value} {100 * one.before:.1f} to {100 * one.after:.1f} %"
        + ("" if one.is_sure else " (not established)")
        for one in worse[:3]
    )
    more = f"; and {len(worse) - 3} more" if len(worse) > 3 else ""
    return f"Of the {of}, {len(worse)} {'gets' if len(worse) == 1 else 'get'} worse: {some}{more}."


def _experts_in_words(results: dict[str, Any], dead: list[int]) -> list[str]:
    if not dead:
        return []
    names = ", ".join(map(str, dead))
    return [
        f"Dead: expert{'s' if len(dead) > 1 else ''} {names} of {len(results['experts']['usage'])}"
        f" {'get' if len(dead) > 1 else 'gets'} under {100 * DEAD_BELOW:g} % of the gate's weight."
    ]


def _change_in_words(comparison: dict[str, Any]) -> str:
    improvement, bounds = comparison["relative_improvement"], comparison["interval"]
    if improvement is None or bounds is None:
        return ""
    word = "fewer" if improvement >= 0 else "more"
    sign = 1 if improvement >= 0 else -1
    low, high = sorted(100 * sign * bound for bound in bounds)
    return f", {100 * abs(improvement):.0f} % {word} errors (95 % interval {low:.0f} to {high:.0f} %)"


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _percent(share: float) -> str:
    """Never 100 % of what is only nearly all."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
