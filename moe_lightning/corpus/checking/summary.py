"""Statistics of a corpus."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe_lightning.data.utterance import Utterance

NUM_BINS = 24
NUM_VALUES = 30
"""Listed values of a field, the most frequent ones."""


@dataclass(frozen=True)
class Histogram:
    """Counts of values between neighbouring edges."""

    title: str
    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    """By split."""


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of one split."""

    num_utterances: int
    num_speakers: int
    hours: float
    median_seconds: float
    max_seconds: float
    num_words: int


@dataclass(frozen=True)
class CorpusSummary:
    """Statistics of a corpus."""

    splits: dict[str, SplitSummary]
    histograms: tuple[Histogram, ...]
    fields: dict[str, dict[str, float]]
    """Hours per value, for each field that distinguishes groups."""


def summarise(splits: Mapping[str, Sequence[Utterance]]) -> CorpusSummary:
    """Statistics of the usable utterances."""
    durations = {split: [one.duration for one in utterances] for split, utterances in splits.items()}
    lengths = {split: [float(len(one.text)) for one in utterances] for split, utterances in splits.items()}
    rates = {split: [len(one.text) / one.duration for one in utterances] for split, utterances in splits.items()}
    return CorpusSummary(
        {split: _summary(utterances) for split, utterances in splits.items()},
        (
            _histogram("Seconds", durations),
            _histogram("Characters of the transcript", lengths),
            _histogram("Characters per second", rates),
        ),
        _hours_by_field([one for utterances in splits.values() for one in utterances]),
    )


def _summary(utterances: Sequence[Utterance]) -> SplitSummary:
    durations_N = np.array([utterance.duration for utterance in utterances])
    return SplitSummary(
        len(utterances),
        len({utterance.speaker for utterance in utterances}),
        round(float(durations_N.sum()) / 3600, 4),
        round(float(np.median(durations_N)), 3),
        round(float(durations_N.max()), 3),
        sum(len(utterance.text.split()) for utterance in utterances),
    )


def _histogram(title: str, values: Mapping[str, Sequence[float]]) -> Histogram:
    """Bins of equal width up to the 99.9th percentile; larger values fall in the last one."""
    together = np.concatenate([np.asarray(numbers) for numbers in values.values()] or [np.zeros(1)])
    edges = np.linspace(0.0, max(float(np.percentile(together, 99.9)), 1e-6), NUM_BINS + 1)
    counts = {
        split: tuple(np.histogram(np.minimum(numbers, edges[-1]), edges)[0].tolist())
        for split, numbers in values.items()
    }
    return Histogram(title, tuple(round(edge, 4) for edge in edges.tolist()), counts)


def _hours_by_field(utterances: Sequence[Utterance]) -> dict[str, dict[str, float]]:
    """Hours per value, for fields with 2 values up to 30, or up to a tenth of the utterances; the 30 most frequent."""
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for utterance in utterances:
        for name, value in utterance.fields.items():
            seconds[name][str(value)] += utterance.duration
    fields = {}
    for name, values in seconds.items():
        if 2 <= len(values) <= max(NUM_VALUES, len(utterances) // 10):
            commonest = [value for value, _ in Counter(values).most_common(NUM_VALUES)]
            fields[name] = {value: round(values[value] / 3600, 4) for value in commonest}
    return fields
