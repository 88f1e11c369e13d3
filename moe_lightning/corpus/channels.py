"""Look at recordings with several channels before they are mixed: channels may cancel each other, or be two people."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from moe_lightning.corpus.entry import Entry
from moe_lightning.data.audio import cancels, read_channels
from moe_lightning.data.utterance import Utterance
from moe_lightning.system.terminal import progress

Relation = Literal["alike", "cancelling", "apart"]
"""``cancelling``: in opposite phase, their mean is next to nothing. ``apart``: different people, as in a call."""

_FRAME = 0.05
"""Seconds."""
_QUIET = 0.01
"""A frame with less than this share of its channel's loud frames' energy is quiet: -20 dB."""
_LEAST_ACTIVE = 0.1
_MOST_TOGETHER = 0.35
_MOST_ALIKE = 0.3
_SECONDS = 30.0
"""Of a recording, for the comparison."""


def relation(samples_LC: np.ndarray, sample_rate: int) -> Relation:
    """Relation of the first two channels.

    They are apart if each is active in a tenth of the frames, at most 35 % of the active frames are so in both, and
    their correlation is under 0.3.
    """
    if cancels(samples_LC):
        return "cancelling"
    two_LC = samples_LC[:, :2].astype(np.float64)
    length = round(_FRAME * sample_rate)
    num_frames = len(two_LC) // length
    if num_frames < 10:
        return "alike"
    energy_TC = np.square(two_LC[: num_frames * length]).reshape(num_frames, length, 2).mean(axis=1)
    loud_C = np.percentile(energy_TC, 95, axis=0)
    active_TC = energy_TC > np.maximum(_QUIET * loud_C, 1e-10)
    together = active_TC.all(axis=1).sum() / max(1, active_TC.any(axis=1).sum())
    product = float((two_LC[:, 0] * two_LC[:, 1]).sum())
    alike = abs(product) / max(1e-10, float(np.sqrt(np.square(two_LC).sum(axis=0).prod())))
    is_apart = active_TC.mean(axis=0).min() >= _LEAST_ACTIVE and together <= _MOST_TOGETHER and alike < _MOST_ALIKE
    return "apart" if is_apart else "alike"


def relations(utterances: Sequence[Utterance], num_threads: int | None = None) -> dict[str, Relation]:
    """Relation of the channels, by id, of the utterances whose channels would be mixed."""
    several = [one for one in utterances if one.audio and one.audio.num_channels > 1 and one.channel is None]
    if not several:
        return {}
    with ThreadPoolExecutor(num_threads or min(32, 2 * (os.cpu_count() or 1))) as pool:
        found = progress(pool.map(_relation_of, several), "Comparing channels", len(several))
        return {one.id: kind for one, kind in zip(several, found, strict=True)}


def choose_channels(
    utterances: Sequence[Utterance], num_threads: int | None = None
) -> tuple[list[Utterance], list[str]]:
    """Utterances with a channel where the mean of all would be next to silence, and warnings; order is kept."""
    found = relations(utterances, num_threads)
    chosen = [replace(one, channel=0) if found.get(one.id) == "cancelling" else one for one in utterances]
    return chosen, _told(utterances, found)


def with_channel(entries: Sequence[Entry], channel: int) -> list[Entry]:
    """Entries that read this channel, except those with one of their own."""
    return [one if one.channel is not None else replace(one, channel=channel) for one in entries]


def _relation_of(utterance: Utterance) -> Relation:
    samples_LC, sample_rate = read_channels(replace(utterance, duration=min(utterance.duration, _SECONDS)))
    return relation(samples_LC, sample_rate) if len(samples_LC) else "alike"


_TOLD: dict[Relation, str] = {
    "cancelling": (
        "two channels in opposite phase, which cancel each other when they are mixed; the first is read: {first}"
    ),
    "apart": (
        "different people on its channels, as in a call, and they are mixed: {first}. Read one channel with --channel 0"
        " or 1, or give each utterance its own in a manifest's field channel; --channel mix accepts the mixture"
    ),
}


def _told(utterances: Sequence[Utterance], found: Mapping[str, Relation]) -> list[str]:
    """A warning for each relation that somebody should know of."""
    warnings = []
    for kind, words in _TOLD.items():
        if files := _files(utterances, found, kind):
            warnings.append(f"{_counted(files)} {words.format(first=files[0])}")
    return warnings


def _files(utterances: Sequence[Utterance], found: Mapping[str, Relation], kind: Relation) -> list[Path]:
    return list(dict.fromkeys(one.audio_file for one in utterances if found.get(one.id) == kind))


def _counted(files: Sequence[Path]) -> str:
    return "1 recording has" if len(files) == 1 else f"{len(files)} recordings have"
