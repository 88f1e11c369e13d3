"""Error rates of systems, overall and by group, from the counts of each utterance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from moe_lightning.corpus import Utterance
from moe_lightning.errors import InputError
from moe_lightning.evaluation.alignment import Counts, count_characters, count_words
from moe_lightning.evaluation.bootstrap import Interval, Resampled, intervals, resample


@dataclass(frozen=True)
class References:
    """What was said, as it is and as it is compared; only utterances that have a word."""

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    raw: tuple[str, ...]
    """Single spaces between words, nothing else changed."""
    normalised: tuple[str, ...]
    normalise: Callable[[str], str]

    @classmethod
    def of(cls, utterances: Sequence[Utterance], normalise: Callable[[str], str]) -> "References":
        """Those utterances whose reference has a word.

        Raises:
            InputError: None has.
        """
        texts = [normalise(utterance.text) for utterance in utterances]
        kept = [(utterance, text) for utterance, text in zip(utterances, texts, strict=True) if text]
        if not kept:
            raise InputError(
                f"no transcript of these {len(utterances)} utterances has a word to compare with; check the texts"
                " with `moe-lightning corpus check`, then run `moe-lightning pipeline` in another --run-dir"
            )
        return cls(
            ids=tuple(utterance.id for utterance, _ in kept),
            speakers=tuple(utterance.speaker for utterance, _ in kept),
            raw=tuple(" ".join(utterance.text.split()) for utterance, _ in kept),
            normalised=tuple(text for _, text in kept),
            normalise=normalise,
        )


@dataclass(frozen=True)
class SystemCounts:
    """A system's errors, utterance by utterance."""

    words: Counts
    characters: Counts
    raw_words: Counts
    raw_characters: Counts

    @classmethod
    def of(cls, references: References, hypotheses: Mapping[str, str]) -> "SystemCounts":
        """Count the errors of hypotheses, by the utterances' ids."""
        raw = [" ".join(hypotheses[id_].split()) for id_ in references.ids]
        normalised = [references.normalise(text) for text in raw]
        words = count_words(references.normalised, normalised)
        characters = count_characters(references.normalised, normalised)
        if normalised == raw and references.normalised == references.raw:
            return cls(words, characters, words, characters)
        return cls(
            words=words,
            characters=characters,
            raw_words=count_words(references.raw, raw),
            raw_characters=count_characters(references.raw, raw),
        )


@dataclass(frozen=True)
class Draws:
    """Error rates of all systems on the same drawn test sets."""

    rates_RS: np.ndarray | None
    """None where there is one thing to draw: then nothing is known of the next one."""
    over: str
    """What was drawn: speakers, or utterances where there is but one speaker."""

    @cached_property
    def intervals(self) -> list[Interval] | None:
        """Of each system's rate."""
        return None if self.rates_RS is None else intervals(self.rates_RS)

    def interval(self, system: int) -> Interval | None:
        return None if self.intervals is None else self.intervals[system]

    def resampled(self, system: int, rate: float) -> Resampled:
        assert self.rates_RS is not None
        return Resampled(rate, self.rates_RS[:, system])


def draw(
    systems: Sequence[SystemCounts],
    references: References,
    rows: np.ndarray,
    num_resamples: int,
    seed: int,
    over: str = "speakers",
) -> Draws:
    """Draw the utterances of these rows again and again, over speakers if there are two or more."""
    units = np.asarray(references.speakers if over == "speakers" else references.ids)[rows]
    if over == "speakers" and len(set(units.tolist())) < 2:
        return draw(systems, references, rows, num_resamples, seed, "utterances")
    if len(units) < 2:
        return Draws(None, over)
    errors_NS = np.column_stack([system.words.errors_N[rows] for system in systems])
    return Draws(resample(errors_NS, systems[0].words.lengths_N[rows], units.tolist(), num_resamples, seed), over)


def rates(system: SystemCounts, rows: np.ndarray) -> dict[str, Any]:
    """WER and CER over the utterances of these rows together (no mean of rates), and what they are made of.

    Rates are fractions; they exceed 1 where more is inserted than was said.
    """
    words = system.words
    return {
        "wer": error_rate(words, rows),
        "cer": error_rate(system.characters, rows),
        "words": int(words.lengths_N[rows].sum()),
        "substitutions": int(words.substitutions_N[rows].sum()),
        "deletions": int(words.deletions_N[rows].sum()),
        "insertions": int(words.insertions_N[rows].sum()),
    }


def error_rate(counts: Counts, rows: np.ndarray) -> float:
    """Errors over words (or characters) of the references."""
    return round(float(counts.errors_N[rows].sum() / counts.lengths_N[rows].sum()), 6)
