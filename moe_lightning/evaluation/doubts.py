"""Reasons to conclude nothing from two error rates, however far apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from moe_lightning.evaluation.system_names import called

Results = Mapping[str, Any]

FEWEST_SPEAKERS = 10
"""For a test split. With fewer speakers, intervals are too narrow, and new speakers may differ in kind."""

MANY_FIGURES = 0.01
"""Share of utterances with figures for words from which the verdict is a warning."""


def no_comparison(results: Results, system: str, baseline: str) -> str | None:
    """Reason why two systems cannot be compared, as a sentence; None if they can."""
    return _foreign_window(results, (system, baseline)) or _broken_baseline(results, system, baseline)


def has_few_speakers(results: Results) -> bool:
    """True for a split too small for claims about other speakers."""
    return bool(results["speakers"] < FEWEST_SPEAKERS)


def nothing_established(results: Results) -> str:
    """Beginning of a sentence about a split with few speakers."""
    count = results["speakers"]
    speakers = "1 test speaker" if count == 1 else f"{count} test speakers"
    return f"Nothing can be established with {speakers} (it takes {FEWEST_SPEAKERS})"


def has_many_figures(results: Results, systems: Sequence[str]) -> bool:
    """True if figures replace words so often that a gain may be only a matter of spelling."""
    return any(results["systems"][name]["figures_for_words"] > MANY_FIGURES * results["utterances"] for name in systems)


def figures_in_words(results: Results, systems: Sequence[str]) -> str:
    """Warning about systems that write figures for spelled-out numbers; "" if there are none."""
    counts = {name: results["systems"][name]["figures_for_words"] for name in systems}
    if not any(counts.values()):
        return ""
    said = ", ".join(f"{called(results, name)} in {count}" for name, count in counts.items())
    return (
        f"Figures stand where the reference has words, of {results['utterances']} utterances: {said}. The basic"
        " normaliser leaves both as they are, so they count as errors, and are none of hearing."
    )


def _foreign_window(results: Results, systems: Sequence[str]) -> str | None:
    """The bare backbone must be decoded over its own window."""
    own = (results.get("decoding") or {}).get("own_window")
    window = results["systems"].get("backbone", {}).get("window")
    if "backbone" not in systems or own is None or window is None or window == own:
        return None
    return (
        f"Nothing is compared with the bare backbone: it was decoded over {_window(window)}, and made for"
        f" {_window(own)}, so that its errors are not its own. `moe-lightning evaluate` decodes it again."
    )


def _window(seconds: float) -> str:
    return f"a window of {seconds:g} s" if seconds else "real lengths"


def _broken_baseline(results: Results, system: str, baseline: str) -> str | None:
    """A working recogniser makes fewer errors than there are words."""
    rates = {name: 100 * results["systems"][name]["rate"] for name in (system, baseline)}
    if rates[baseline] <= 100:
        return None
    name, other = called(results, baseline), called(results, system)
    return (
        f"Something is wrong, and nothing is compared: {name} has an error rate of {rates[baseline]:.1f} %, more errors"
        f" than there are {results['metric']['units']} ({other}: {rates[system]:.1f} %). Likely causes: a window that"
        " the model was not made for, the language that it is told to write, or recordings whose sample rate is not"
        " what their header says."
    )
