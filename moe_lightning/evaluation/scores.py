"""Error rates of systems, overall and by group, with the typed parts of the results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_lightning.data.normaliser import Normaliser, has_spaces
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.evaluation.alignment import Counts, count_characters, count_words
from moe_lightning.evaluation.bootstrap import Resampled, intervals, resample
from moe_lightning.reports.results import Interval, Metric, Rates

MIXED = "WER/CER"


def metric_of(languages: Iterable[str | None]) -> Metric:
    """Error rate for utterances in these languages.

    >>> metric_of(["en", None]).name, metric_of(["ja"]).short, metric_of(["en", "zh"]).units
    ('word error rate', 'CER', 'words (characters in zh)')
    """
    kinds = {language: has_spaces(language) for language in set(languages)}
    by_character = ", ".join(sorted(str(language) for language, is_spaced in kinds.items() if not is_spaced))
    if not by_character:
        return Metric("word error rate", "WER", "words")
    if not any(kinds.values()):
        return Metric("character error rate", "CER", "characters")
    name = f"error rate (of characters in {by_character}, else of words)"
    return Metric(name, MIXED, f"words (characters in {by_character})")


@dataclass(frozen=True)
class References:
    """Reference transcripts, raw and normalised; only utterances with at least one word."""

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    languages: tuple[str | None, ...]
    raw: tuple[str, ...]
    """Single spaces between words; otherwise unchanged."""
    normaliser: Normaliser

    @classmethod
    def of(cls, utterances: Sequence[Utterance], normaliser: Normaliser) -> "References":
        """Keep the utterances with a word in their reference.

        Raises:
            InputError: There are none.
        """
        kept = [utterance for utterance in utterances if normaliser(utterance.text, utterance.language)]
        if not kept:
            raise InputError(
                "transcript.no-words",
                f"no transcript of these {len(utterances)} utterances has a word to compare with; check the texts"
                " with `moe-lightning corpus check`, then run `moe-lightning pipeline` in another --run-dir",
                len(utterances),
            )
        return cls(
            ids=tuple(utterance.id for utterance in kept),
            speakers=tuple(utterance.speaker for utterance in kept),
            languages=tuple(utterance.language for utterance in kept),
            raw=tuple(" ".join(utterance.text.split()) for utterance in kept),
            normaliser=normaliser,
        )

    def forms(self, texts: Sequence[str]) -> "Forms":
        """Normalise texts of these utterances for comparison."""
        pairs = list(zip(texts, self.languages, strict=True))
        words = [self.normaliser(*pair) for pair in pairs]
        characters = [
            text if has_spaces(language) else text.replace(" ", "")
            for text, language in zip(words, self.languages, strict=True)
        ]
        return Forms([self.normaliser.units(*pair) for pair in pairs], words, characters)


@dataclass(frozen=True)
class Forms:
    """Texts normalised for comparison."""

    units: list[str]
    """Words, or characters for a language without spaces, separated by a space."""
    words: list[str]
    characters: list[str]
    """As ``words``, but without spaces for a language without spaces."""


@dataclass(frozen=True)
class SystemCounts:
    """A system's errors per utterance."""

    units: Counts
    """In units of the headline: words, or characters for a language without spaces."""
    words: Counts
    characters: Counts
    raw_words: Counts
    raw_characters: Counts
    has_figures_N: np.ndarray
    """Bool: the hypothesis has figures, the reference has none, and the normaliser cannot make them alike."""

    @classmethod
    def of(cls, references: References, hypotheses: Mapping[str, str]) -> "SystemCounts":
        """Count the errors of hypotheses, given by utterance id."""
        raw = [" ".join(hypotheses[id_].split()) for id_ in references.ids]
        said, written = references.forms(references.raw), references.forms(raw)
        words = count_words(said.words, written.words)
        return cls(
            units=words if said.units == said.words else count_words(said.units, written.units),
            words=words,
            characters=count_characters(said.characters, written.characters),
            raw_words=count_words(references.raw, raw),
            raw_characters=count_characters(references.raw, raw),
            has_figures_N=_has_figures(references, raw),
        )


@dataclass(frozen=True)
class Draws:
    """Error rates of all systems on the same drawn test sets."""

    rates_RS: np.ndarray | None
    """None if there is only one unit to draw: then nothing is known about the next one."""
    over: str
    """Unit of drawing: speakers, or utterances if there is only one speaker."""

    @cached_property
    def intervals(self) -> list[Interval] | None:
        """Interval per system."""
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
    """Draw the utterances in these rows repeatedly, over speakers if there are two or more."""
    units = np.asarray(references.speakers if over == "speakers" else references.ids)[rows]
    if over == "speakers" and len(set(units.tolist())) < 2:
        return draw(systems, references, rows, num_resamples, seed, "utterances")
    if len(units) < 2:
        return Draws(None, over)
    errors_NS = np.column_stack([system.units.errors_N[rows] for system in systems])
    return Draws(resample(errors_NS, systems[0].units.lengths_N[rows], units.tolist(), num_resamples, seed), over)


def rates(system: SystemCounts, references: References, rows: np.ndarray) -> Rates:
    """Error rates over the utterances in these rows."""
    units = system.units
    return Rates(
        metric=metric_of(references.languages[row] for row in rows).short,
        rate=error_rate(units, rows),
        length=int(units.lengths_N[rows].sum()),
        substitutions=int(units.substitutions_N[rows].sum()),
        deletions=int(units.deletions_N[rows].sum()),
        insertions=int(units.insertions_N[rows].sum()),
        wer=error_rate(system.words, rows),
        cer=error_rate(system.characters, rows),
        words=int(system.words.lengths_N[rows].sum()),
    )


def error_rate(counts: Counts, rows: np.ndarray) -> float:
    """Errors divided by words (or characters) in the references."""
    return round(float(counts.errors_N[rows].sum() / counts.lengths_N[rows].sum()), 6)


def _has_figures(references: References, hypotheses: Sequence[str]) -> np.ndarray:
    """True if a hypothesis has figures, its reference has none, and the language's normaliser changes neither."""
    triples = zip(references.raw, hypotheses, references.languages, strict=True)
    return np.array([
        references.normaliser.kind(language) == "basic" and has_figures(written) and not has_figures(said)
        for said, written, language in triples
    ])  # fmt: skip


def has_figures(text: str) -> bool:
    """True for a text with a number in figures."""
    return any(character.isdecimal() for character in text)
