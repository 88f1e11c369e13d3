"""One utterance of a corpus: audio, transcript, speaker."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from moe_lightning.errors import InputError
from moe_lightning.languages import LANGUAGE_FIELDS, language_code

FieldValue: TypeAlias = str | int | float | None

MAX_SECONDS = 30.0
"""Whisper's window; it would not read audio beyond."""
MIN_SECONDS = 0.02
"""One encoder frame (320 samples at 16 kHz); anything shorter holds no speech."""


class AudioInfo(NamedTuple):
    """Header of a recording."""

    sample_rate: int
    """Hz, as in the file."""
    num_channels: int
    num_samples: int
    """Length of one channel of the whole file, at ``sample_rate``."""

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


@dataclass(frozen=True, slots=True)
class Utterance:
    """A segment of a recording with its transcript and speaker, checked on creation.

    Raises:
        InputError: No id, transcript or speaker; a start or duration that is not a valid time.
    """

    id: str
    """Unique in the corpus, over all splits."""
    audio_file: Path
    start: float
    """Seconds from the beginning of the file."""
    duration: float
    """Seconds; all of them exist in the file."""
    text: str
    """The reference transcript, never empty."""
    speaker: str
    fields: dict[str, FieldValue] = field(default_factory=dict)
    """Other information in the corpus: accent, etiology, language, gender ..."""
    channel: int | None = None
    """The channel to read, from 0; None is the mean of all."""
    audio: AudioInfo | None = field(default=None, compare=False)
    """The file's header, if already read."""

    def __post_init__(self) -> None:
        if not self.id or not self.id.isprintable():
            raise InputError(f"an utterance's id must be a printable text, got {self.id!r} for {self.audio_file}")
        if not self.text.strip():
            raise InputError(f"utterance {self.id!r} has no transcript; every utterance needs one")
        if not self.speaker:
            raise InputError(f"utterance {self.id!r} has no speaker; splits are made by speaker")
        if not self.speaker.isprintable():
            raise InputError(f"utterance {self.id!r}: its speaker must be a printable text, got {self.speaker!r}")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise InputError(f"utterance {self.id!r}: start must be 0 or more seconds, got {self.start}")
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise InputError(f"utterance {self.id!r}: duration must be more than 0 seconds, got {self.duration}")

    @property
    def language(self) -> str | None:
        """Language code, such as ``en``, from the first field that names it; None if the corpus names none."""
        fields = {name.lower(): value for name, value in self.fields.items()}
        named = (fields.get(name) for name in LANGUAGE_FIELDS)
        codes = (language_code(name) for name in named if isinstance(name, str))
        return next((code for code in codes if code), None)
