"""Results of an evaluation or a ladder: the contents of ``results.json`` and of every page; rates are fractions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moe_lightning.errors import InputError
from moe_lightning.settings.evaluation import NormaliserChoice
from moe_lightning.system.json_files import as_json, from_json, read_json_object, write_json

Interval = tuple[float, float]


class Metric(NamedTuple):
    """An error rate, named for tables and sentences."""

    name: str
    short: str
    """``WER``, ``CER``, or ``WER/CER`` for a mixture of both kinds of languages."""
    units: str
    """Units counted in the references."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Error rates over utterances together, not a mean of rates.

    They are fractions; with more insertions than spoken words, they exceed 1.
    """

    metric: str
    """Name of the headline's rate, as in `Metric.short`."""
    rate: float
    """The headline's: errors in words, or in characters for a language without spaces."""
    length: int
    """Words (or such characters) in the references."""
    substitutions: int
    deletions: int
    insertions: int
    wer: float
    cer: float
    words: int
    """In the references, separated by spaces."""


@dataclass(frozen=True, kw_only=True)
class GroupScores(Rates):
    """Scores of a system on a group's utterances."""

    utterances: int
    speakers: int
    interval: Interval | None
    """For the headline's rate, 95 %."""
    interval_over: str


Groups = Mapping[str, Mapping[str, GroupScores]]
"""Scores by field, then by value."""


class RawRates(NamedTuple):
    """Error rates of the texts without normalisation."""

    wer: float
    cer: float


class WorstGroup(NamedTuple):
    """The group with the highest rate."""

    value: str
    rate: float


@dataclass(frozen=True, kw_only=True)
class SystemScores(Rates):
    """Scores of a system on all utterances, and by group."""

    interval: Interval | None
    """For the headline's rate, 95 %."""
    interval_over: str
    interval_over_utterances: Interval | None
    raw: RawRates
    figures_for_words: int
    """Utterances with figures but none in the reference, in languages whose normaliser changes neither."""
    groups: Groups
    worst_group: Mapping[str, WorstGroup]
    """By field."""
    spread: Mapping[str, float]
    """By field: highest rate of a group minus the lowest."""
    seconds: float | None = None
    """Of decoding; this and the following are None for transcripts from elsewhere."""
    real_time_factor: float | None = None
    """Seconds of work per second of audio."""
    parameters: int | None = None
    """All parameters used."""
    trained_parameters: int | None = None
    window: float | None = None
    """Minimum seconds per input; 0 for real lengths."""
    loops: int | None = None
    """Utterances whose text was cut off at a loop; None without the guard."""
    silenced: int | None = None
    """Utterances without speech, and so without text; None without the guard."""
    label: str | None = None
    """In a ladder: name for tables."""
    rate_by_seed: Sequence[float] | None = None
    """In a ladder."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A system against a baseline on the same utterances."""

    over: str
    """Unit of drawing."""
    probability_better: float | None
    """Share of draws with fewer errors by the system, a tie counts half; None if there is only one unit to draw."""
    relative_improvement: float | None = None
    """``(baseline - system) / baseline``; None if the baseline makes no error."""
    interval: Interval | None = None
    """For the relative improvement."""
    difference: float | None = None
    """``system - baseline``: negative if the system is better."""
    difference_interval: Interval | None = None


class OverUtterances(NamedTuple):
    """The same comparison if the bootstrap drew utterances."""

    interval: Interval | None
    probability_better: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison(Compared):
    """A system against a baseline, overall and by group."""

    system: str
    baseline: str
    over_utterances: OverUtterances
    groups: Mapping[str, Mapping[str, Compared]]
    """By field, then by value."""
    most_improved: Sequence[str]
    """Ids of utterances, largest decrease in errors first."""
    most_worsened: Sequence[str]

    @property
    def pair(self) -> tuple[str, str]:
        """System and baseline."""
        return self.system, self.baseline


class NormaliserName(NamedTuple):
    """The normaliser as it was chosen, and in words."""

    choice: NormaliserChoice
    name: str


class Bootstrap(NamedTuple):
    """Settings of the bootstrap."""

    num_resamples: int
    seed: int
    confidence: float


@dataclass(frozen=True)
class Usage:
    """Use of the experts over a split."""

    usage: Sequence[float] = field(default_factory=list)
    """Share of utterances for which the expert is most likely, by expert."""
    weight: Sequence[float] = field(default_factory=list)
    """Mean share of the gate's weight, by expert."""
    entropy: float = 0.0
    """Mean over the utterances; 1 for equal shares."""
    dead: Sequence[int] = field(default_factory=list)
    by_field: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    """Utterances by expert, for each value of a field."""


class Decoding(NamedTuple):
    """Cost and settings of decoding a split."""

    device: str
    num_threads: int
    audio_seconds: float
    memory_bytes: int
    """Peak memory of the GPU if there is one, else of the process."""
    routing: str = ""
    """For the mixture."""
    num_beams: int = 1
    """For a CTC model."""
    gate_by: str = "utterance"
    """Input of the gate: one ``utterance``, or all of its ``speaker``."""
    own_window: float = 0.0
    """Seconds of the backbone's training window."""
    guard: bool = False
    """True if loops were ended and silence had no text; earlier versions did neither."""


class StageFacts(NamedTuple):
    """A finished stage."""

    started: str | None
    seconds: float | None
    version: str | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Environment:
    """Snapshot of a run's environment."""

    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    git_revision: str | None = None
    seed: int | None = None
    stages: Mapping[str, StageFacts] = field(default_factory=dict)


Answer = Literal["better", "worse", "not established", "not compared"]
"""``not established``: chance, or too few speakers; ``not compared``: one of the two systems is broken or was decoded
over another window.
"""


class Verdict(NamedTuple):
    """The answer as a sentence, with remarks."""

    answer: Answer
    sentence: str
    is_warning: bool
    """The answer is not ``better``, or there is a caveat."""
    details: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Scores of systems on one split: `score_systems` fills the first part, an evaluation or a ladder the rest."""

    systems: Mapping[str, SystemScores]
    """By name, in the order of tables."""
    comparisons: Mapping[str, Comparison]
    """By ``SYSTEM vs BASELINE``; the first is the headline."""
    utterances: int
    speakers: int
    left_out_without_words: int
    metric: Metric
    normaliser: NormaliserName
    bootstrap: Bootstrap
    split: str = ""
    shared_speakers: int = 0
    """Speakers of the split who are in the training data too."""
    experts: Usage = field(default_factory=Usage)
    decoding: Decoding | None = None
    environment: Environment = field(default_factory=Environment)
    verdict: Verdict | None = None
    seeds: Sequence[int] | None = None
    """In a ladder."""
    lr_factors: Mapping[str, float] | None = None
    """In a ladder: factor of the learning rate by row."""

    @property
    def headline(self) -> Comparison:
        """The first comparison; a ValueError without any."""
        if not self.comparisons:
            raise ValueError("these systems were not compared; give `score_systems` the pairs to compare")
        return next(iter(self.comparisons.values()))

    @property
    def judged(self) -> Verdict:
        """The verdict of results that have one."""
        assert self.verdict is not None
        return self.verdict

    @property
    def num_seeds(self) -> int:
        """Trainings per system that were scored together, on the same utterances."""
        return len(self.seeds or ()) or 1

    def save(self, file: Path) -> None:
        """Write ``results.json``."""
        write_json(file, as_json(self))

    @classmethod
    def load(cls, file: Path) -> "Results":
        """Read ``results.json``.

        Raises:
            InputError: The file is missing, broken, or of another version.
        """
        values = read_json_object(file, "moe-lightning evaluate")
        try:
            return from_json(cls, values, file)
        except InputError as error:
            way_out = "score again with `moe-lightning evaluate --rescore`, a ladder by its own command"
            raise InputError(error.code, f"{error}; {way_out}", file) from error
