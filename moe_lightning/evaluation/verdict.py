"""The verdict on a comparison in words, and reasons to doubt it."""

from collections.abc import Sequence
from typing import NamedTuple

from moe_lightning.evaluation.fields import shown_fields
from moe_lightning.evaluation.system_lines import called
from moe_lightning.evaluation.usage import DEAD_BELOW
from moe_lightning.reports.results import Answer, Comparison, Results, Verdict

FEWEST_SPEAKERS = 10
"""For a test split. With fewer speakers, intervals are too narrow, and new speakers may differ in kind."""

MANY_FIGURES = 0.01
"""Share of utterances with figures for words from which the verdict is a warning."""


def no_comparison(results: Results, system: str, baseline: str) -> str | None:
    """Reason why two systems cannot be compared, as a sentence; None if they can."""
    return _foreign_window(results, (system, baseline)) or _broken_baseline(results, system, baseline)


def has_few_speakers(results: Results) -> bool:
    """True for a split too small for claims about other speakers."""
    return bool(results.speakers < FEWEST_SPEAKERS)


def nothing_established(results: Results) -> str:
    """Beginning of a sentence about a split with few speakers."""
    count = results.speakers
    speakers = "1 test speaker" if count == 1 else f"{count} test speakers"
    return f"Nothing can be established with {speakers} (it takes {FEWEST_SPEAKERS})"


def has_many_figures(results: Results, systems: Sequence[str]) -> bool:
    """True if figures replace words so often that a gain may be only a matter of spelling."""
    return any(results.systems[name].figures_for_words > MANY_FIGURES * results.utterances for name in systems)


def figures_in_words(results: Results, systems: Sequence[str]) -> str:
    """Warning about systems that write figures for spelled-out numbers; "" if there are none."""
    counts = {name: results.systems[name].figures_for_words for name in systems}
    if not any(counts.values()):
        return ""
    said = ", ".join(f"{called(results, name)} in {count}" for name, count in counts.items())
    return (
        f"Figures stand where the reference has words, of {results.utterances} utterances: {said}. The basic"
        " normaliser leaves both as they are, so they count as errors, and are none of hearing."
    )


def _foreign_window(results: Results, systems: Sequence[str]) -> str | None:
    """The bare backbone must be decoded over its own window."""
    if "backbone" not in systems or results.decoding is None:
        return None
    own, window = results.decoding.own_window, results.systems["backbone"].window
    if window is None or window == own:
        return None
    return (
        f"Nothing is compared with the bare backbone: it was decoded over {_window(window)}, and made for"
        f" {_window(own)}, so that its errors are not its own. `moe-lightning evaluate` decodes it again."
    )


def _window(seconds: float) -> str:
    return f"a window of {seconds:g} s" if seconds else "real lengths"


def _broken_baseline(results: Results, system: str, baseline: str) -> str | None:
    """A working recogniser makes fewer errors than there are words."""
    rates = {name: 100 * results.systems[name].rate for name in (system, baseline)}
    if rates[baseline] <= 100:
        return None
    name, other = called(results, baseline), called(results, system)
    return (
        f"Something is wrong, and nothing is compared: {name} has an error rate of {rates[baseline]:.1f} %, more errors"
        f" than there are {results.metric.units} ({other}: {rates[system]:.1f} %). Likely causes: a window that"
        " the model was not made for, the language that it is told to write, or recordings whose sample rate is not"
        " what their header says."
    )


_ONLY_BARE = (
    "Compared with the bare model only: one LoRA without clusters may help as much. `moe-lightning ladder` with this"
    " run's flags trains one of the same size, and says which is better."
)
SURE = 0.95
"""A difference with at least this probability is called established."""


def judge(results: Results) -> Verdict:
    """Verdict on the first comparison: does the system beat its baseline, in all groups, and with which probability?"""
    headline = results.headline
    pair = headline.pair
    answer, sentence = answer_to(results, headline), headline_sentence(results, headline)
    is_compared = answer != "not compared"
    worse = groups_worse(results, headline) if is_compared else []
    dead = results.experts.dead
    details = [
        _groups_in_words(results, headline, worse) if is_compared else "",
        *_experts_in_words(results, dead),
        gate_in_words(results),
        figures_in_words(results, pair),
        _ONLY_BARE if is_compared and headline.baseline == "backbone" else "",
    ]
    if results.shared_speakers:
        count, was = (
            _counted(results.shared_speakers, "speaker"),
            "was" if results.shared_speakers == 1 else "were",
        )
        details.append(f"{count} of the test split {was} heard in training: new voices will have more errors.")
    surely_worse = [one for one in worse if one.is_sure]
    is_warning = answer != "better" or bool(surely_worse or dead) or has_many_figures(results, pair)
    return Verdict(answer, sentence, is_warning, [text for text in details if text])


def gate_in_words(results: Results) -> str:
    """Remark on a gate that read more than one utterance; else ""."""
    if results.decoding is None or results.decoding.gate_by != "speaker":
        return ""
    return (
        "The gate heard all that a test speaker says before it chose experts; --gate-by utterance decodes each"
        " utterance by itself."
    )


def answer_to(results: Results, comparison: Comparison) -> Answer:
    """Answer for a comparison: does the system make fewer errors than its baseline?"""
    if no_comparison(results, comparison.system, comparison.baseline):
        return "not compared"
    return answer_of(results, comparison.probability_better)


def answer_of(results: Results, probability: float | None) -> Answer:
    """Answer for two comparable systems, from the probability of fewer errors."""
    if probability is None or has_few_speakers(results) or 1 - SURE < probability < SURE:
        return "not established"
    return "better" if probability >= SURE else "worse"


def headline_sentence(results: Results, comparison: Comparison) -> str:
    """Both rates, the relative change with its interval, and the probability."""
    system, baseline = comparison.system, comparison.baseline
    reason = no_comparison(results, system, baseline)
    if reason:
        return reason
    rates = {name: f"{100 * results.systems[name].rate:.1f} %" for name in (system, baseline)}
    units = results.metric.units
    name, other = called(results, system), called(results, baseline)
    probability = comparison.probability_better
    if probability is None:
        return f"One utterance says nothing: {name} {rates[system]}, {other} {rates[baseline]}."
    against = f"{rates[system]} of the {units} are wrong instead of {rates[baseline]}"
    change, over = _change_in_words(comparison), comparison.over
    if has_few_speakers(results):
        return f"{nothing_established(results)}: with {name} {against}."
    if comparison.relative_improvement == 0 and not any(comparison.interval or [1.0]):
        return (
            f"It is not established that {name} beats {other}: both get {rates[system]} of the {units} wrong, and"
            f" as many in every draw of {comparison.over}."
        )
    draws = f"in {_percent(probability)} of the draws of {over} it makes fewer errors"
    openings = {
        "better": f"{_capitalised(name)} beats {other}",
        "worse": f"{_capitalised(name)} is worse than {other}",
        "not established": f"It is not established that {name} beats {other}",
    }
    return f"{openings[answer_of(results, probability)]}: {against}{change}; {draws}."


class WorseGroup(NamedTuple):
    """A group with more errors by the system than by the baseline."""

    field: str
    value: str
    before: float
    after: float
    is_sure: bool


def groups_worse(results: Results, comparison: Comparison) -> list[WorseGroup]:
    """Groups in the most informative fields with more errors than before, largest loss first."""
    systems = results.systems
    before, after = (systems[name].groups for name in (comparison.baseline, comparison.system))
    found = []
    for field in shown_fields(before):
        for value, group in before[field].items():
            now = after[field][value].rate
            probability = comparison.groups[field][value].probability_better
            if now > group.rate:
                is_sure = answer_of(results, probability) == "worse"
                found.append(WorseGroup(field, value, group.rate, now, is_sure))
    return sorted(found, key=lambda one: one.before - one.after)


def _groups_in_words(results: Results, comparison: Comparison, worse: list[WorseGroup]) -> str:
    groups = results.systems[comparison.baseline].groups
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


def _experts_in_words(results: Results, dead: Sequence[int]) -> list[str]:
    if not dead:
        return []
    names = ", ".join(map(str, dead))
    return [
        f"Dead: expert{'s' if len(dead) > 1 else ''} {names} of {len(results.experts.usage)}"
        f" {'get' if len(dead) > 1 else 'gets'} under {100 * DEAD_BELOW:g} % of the gate's weight."
    ]


def _change_in_words(comparison: Comparison) -> str:
    improvement, bounds = comparison.relative_improvement, comparison.interval
    if improvement is None or bounds is None:
        return ""
    word = "fewer" if improvement >= 0 else "more"
    sign = 1 if improvement >= 0 else -1
    low, high = sorted(100 * sign * bound for bound in bounds)
    return f", {100 * abs(improvement):.0f} % {word} errors (95 % interval {low:.0f} to {high:.0f} %)"


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _percent(share: float) -> str:
    """Never 100 % for a share below 1."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
