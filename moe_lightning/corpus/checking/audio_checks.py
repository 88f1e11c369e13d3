"""Checks on decoded audio: broken, silent, clipped, or with a wrong duration."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from moe_lightning.corpus.channels import Relation
from moe_lightning.corpus.checking.finding import Finding, finding, findings_of
from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.probe import LeftOut
from moe_lightning.data.audio import REPAIR, read_audio
from moe_lightning.data.utterance import MAX_SECONDS, Utterance
from moe_lightning.errors import InputError
from moe_lightning.system.terminal import progress

SILENT_DBFS = -60.0
"""Upper limit of the root mean square for a silent recording."""
FULL_SCALE = 0.999
CLIPPED_SHARE = 0.001
"""A recording with more samples at full scale counts as clipped."""
DURATION_DIFFERENCE = 0.5
"""Seconds between the duration in the manifest and in the file; larger differences are reported."""


class Levels(NamedTuple):
    """Loudness of an utterance."""

    rms_dbfs: float
    clipped_share: float
    fault: str | None
    """Reason why decoding failed."""


def measure_levels(utterances: Sequence[Utterance], num_threads: int | None = None) -> list[Levels]:
    """Decode every utterance, in order, with a progress bar."""
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        return list(progress(pool.map(_levels, utterances), "Listening", len(utterances)))


def check_audio(
    entries: Sequence[Entry],
    utterances: Sequence[Utterance],
    left_out: Sequence[LeftOut],
    levels: Sequence[Levels],
    channels: Mapping[str, Relation],
) -> list[Finding]:
    """Findings about recordings.

    Args:
        left_out: Entries refused by the header check.
        levels: One per utterance, in order.
        channels: By id, of utterances with several.
    """
    measured = list(zip(utterances, levels, strict=True))
    return findings_of(
        finding(
            "broken recording",
            "Missing, empty, unreadable or without a transcript. Repair them, or leave them out with --skip-bad-audio.",
            ((one.id, one.reason) for one in left_out if one.is_fault),
            stops_training=True,
        ),
        finding(
            "breaks off",
            "The header is in order, the samples after it are not: the training would stop when it comes to them.",
            ((one.id, level.fault) for one, level in measured if level.fault),
            stops_training=True,
        ),
        finding(
            "too long",
            f"Over {MAX_SECONDS:.0f} s, Whisper's window; they are left out. Cut them, say by offset and duration.",
            ((one.id, one.reason) for one in left_out if not one.is_fault),
        ),
        finding(
            "silent",
            f"Under {SILENT_DBFS:.0f} dBFS over its whole length.",
            ((u.id, f"{level.rms_dbfs:.0f} dBFS") for u, level in measured if level.rms_dbfs < SILENT_DBFS),
        ),
        finding(
            "clipped",
            f"Over {CLIPPED_SHARE:.1%} of the samples at full scale.",
            ((u.id, f"{level.clipped_share:.1%}") for u, level in measured if level.clipped_share > CLIPPED_SHARE),
        ),
        finding(
            "channels that cancel each other",
            "In opposite phase: their mean is next to silence. The corpus stage reads the first.",
            ((u.id, str(u.audio_file)) for u in utterances if channels.get(u.id) == "cancelling"),
        ),
        finding(
            "different people on two channels",
            "As in a call; they are mixed. Choose one with --channel, or by the field channel of a manifest.",
            ((u.id, str(u.audio_file)) for u in utterances if channels.get(u.id) == "apart"),
        ),
        finding(
            "wrong duration",
            f"The manifest's duration is over {DURATION_DIFFERENCE} s shorter than the file, otherwise unused.",
            _short_durations(entries, utterances),
        ),
    )


def _levels(utterance: Utterance) -> Levels:
    try:
        waveform_L = read_audio(utterance)
    except InputError as error:
        return Levels(0.0, 0.0, str(error).removesuffix(f"; {REPAIR}"))
    rms = float(np.sqrt(np.mean(np.square(waveform_L, dtype=np.float64))))
    clipped_share = float(np.mean(np.abs(waveform_L) >= FULL_SCALE))
    return Levels(20 * float(np.log10(max(rms, 1e-10))), clipped_share, None)


def _short_durations(entries: Sequence[Entry], utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    uses = Counter(entry.audio_file for entry in entries)
    said = {entry.id: entry.duration for entry in entries if entry.start == 0 and uses[entry.audio_file] == 1}
    lines = []
    for utterance in utterances:
        duration = said.get(utterance.id)
        if duration is not None and utterance.audio and utterance.audio.seconds - duration > DURATION_DIFFERENCE:
            lines.append((utterance.id, f"{duration:.2f} s said, {utterance.audio.seconds:.2f} s in the file"))
    return lines
