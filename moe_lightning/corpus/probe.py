"""Header check: reads each entry's audio header, and turns the entry into an utterance or refuses it."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from moe_lightning.corpus.entry import Entry
from moe_lightning.data.audio import REPAIR, TOLERANCE, measured, read_header
from moe_lightning.data.utterance import MAX_SECONDS, MIN_SECONDS, AudioInfo, FieldValue, Utterance
from moe_lightning.errors import InputError, printable
from moe_lightning.system.terminal import progress

TOO_LONG = "audio.too-long"
UNALIGNED = "audio.unaligned"
_CHUNK = 64
"""Recordings per task of a thread."""


@dataclass(frozen=True)
class LeftOut:
    """A refused entry, with the reason."""

    id: str
    audio_file: str
    origin: str
    reason: str
    is_fault: bool
    """False if only its length over `MAX_SECONDS` is wrong, or no text fits this stretch of it."""
    code: str = TOO_LONG
    """Of the error."""


@dataclass(frozen=True)
class Probed:
    """A corpus after the check."""

    splits: dict[str, list[Utterance]]
    """By the corpus's own split names; missing splits have no key."""
    left_out: list[LeftOut]


def probe_entries(entries: Sequence[Entry], num_threads: int | None = None, *, needs_text: bool = True) -> Probed:
    """Read the header of every recording; order is kept.

    Args:
        num_threads: Files opened at a time; None for twice the cores, at most 32.
        needs_text: Refuse entries without a transcript.
    """
    num_threads = num_threads or min(32, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(num_threads) as pool:
        chunks = [entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK)]
        results = chain.from_iterable(
            pool.map(lambda chunk: [probe_entry(entry, needs_text) for entry in chunk], chunks)
        )
        checked = list(progress(results, "Checking recordings", len(entries)))
    splits: dict[str, list[Utterance]] = {}
    for entry, result in zip(entries, checked, strict=True):
        if isinstance(result, Utterance):
            splits.setdefault(entry.split, []).append(result)
    return Probed(splits, [result for result in checked if isinstance(result, LeftOut)])


def refuse_faults(left_out: Iterable[LeftOut]) -> None:
    """Refuse a corpus with faulty recordings.

    Raises:
        InputError: Names the first faulty recording, its rule, and the number of others.
    """
    faults = [one for one in left_out if one.is_fault]
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
        raise InputError(
            first.code,
            f"{first.origin}: {first.reason}{more}; --skip-bad-audio lists such recordings and leaves them out",
            first.audio_file,
        )


def probe_entry(entry: Entry, needs_text: bool = True) -> Utterance | LeftOut:
    try:
        if needs_text and not entry.text.strip():
            raise InputError(
                "transcript.empty", f"utterance {entry.id!r} has no transcript; every utterance needs one", entry.id
            )
        audio = read_header(entry.audio_file)
        duration = _duration(entry, audio)
        utterance = Utterance(
            id=entry.id,
            audio_file=entry.audio_file,
            start=entry.start,
            duration=duration,
            text=entry.text,
            speaker=entry.speaker,
            fields=_known(entry.fields),
            channel=entry.channel if audio.num_channels > 1 else None,
            audio=audio,
        )
    except InputError as error:
        reason = str(error).removesuffix(f"; {REPAIR}")
        return LeftOut(entry.id, str(entry.audio_file), entry.origin, reason, is_fault=True, code=error.code)
    if duration > MAX_SECONDS:
        reason = f"{entry.audio_file} lasts {duration:.1f} s, over the {MAX_SECONDS:.0f} s of Whisper's window"
        return LeftOut(entry.id, str(entry.audio_file), entry.origin, reason, is_fault=False)
    return utterance


def _known(fields: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """Fields safe for pages and terminals: control characters escaped, None for a number that is not finite.

    pandas writes NaN for a gap in a table.
    """
    return {_shown(name): _shown(value) if isinstance(value, str) else _finite(value) for name, value in fields.items()}


def _shown(text: str) -> str:
    return text if text.isprintable() else printable(text)


def _finite(value: int | float | None) -> int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(entry: Entry, audio: AudioInfo) -> float:
    """Seconds of the segment within the file."""
    if entry.channel is not None and entry.channel >= audio.num_channels:
        raise InputError(
            "audio.channel",
            f"{entry.audio_file} has {audio.num_channels} channels, channel {entry.channel} is asked for",
            entry.channel,
        )
    found = measured(entry.audio_file, audio)
    if entry.duration is None and found.lost > TOLERANCE:
        raise InputError(
            "audio.cut-off",
            f"{entry.audio_file} is cut off: it holds {found.held:.2f} s, its header says {found.lost:.2f} s more",
            entry.audio_file,
        )
    rest = found.held - entry.start
    wanted = rest if entry.duration is None else entry.duration
    lasts = f"{entry.audio_file} lasts {found.held:.2f} s, but the utterance is said to"
    if rest <= 0:
        raise InputError("audio.span", f"{lasts} begin at {entry.start:.2f} s", entry.audio_file)
    if wanted > rest + TOLERANCE:
        raise InputError(
            "audio.span", f"{lasts} lie at {entry.start:.2f} to {entry.start + wanted:.2f} s", entry.audio_file
        )
    duration = min(wanted, rest)
    if duration < MIN_SECONDS:
        raise InputError(
            "audio.too-short",
            f"{entry.audio_file} holds {duration:.3f} s of audio for {entry.id!r}, under {MIN_SECONDS} s",
            entry.audio_file,
        )
    return duration
