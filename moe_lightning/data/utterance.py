"""One utterance of a corpus: audio, transcript, speaker."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from moe_lightning.data.languages import LANGUAGE_FIELDS, language_code
from moe_lightning.errors import InputError

FieldValue: TypeAlias = str | int | float | None

SPLITS = ("train", "dev", "test")
UNKNOWN_SPEAKER = "unknown:"
"""Prefix of stand-in names for unnamed speakers."""
ALLOW_SHARED_SPEAKERS = "--allow-shared-speakers"
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
            raise InputError(
                "corpus.bad-row",
                f"an utterance's id must be a printable text, got {self.id!r} for {self.audio_file}",
                f"id={self.id}",
            )
        if not self.speaker:
            raise InputError(
                "corpus.bad-row", f"utterance {self.id!r} has no speaker; splits are made by speaker", "speaker="
            )
        if not self.speaker.isprintable():
            raise InputError(
                "corpus.bad-row",
                f"utterance {self.id!r}: its speaker must be a printable text, got {self.speaker!r}",
                f"speaker={self.speaker}",
            )
        if not (math.isfinite(self.start) and self.start >= 0):
            raise InputError(
                "corpus.bad-row",
                f"utterance {self.id!r}: start must be 0 or more seconds, got {self.start}",
                f"start={self.start}",
            )
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise InputError(
                "corpus.bad-row",
                f"utterance {self.id!r}: duration must be more than 0 seconds, got {self.duration}",
                f"duration={self.duration}",
            )

    @property
    def language(self) -> str | None:
        """Language code, such as ``en``, from the first field that names it; None if the corpus names none."""
        fields = {name.lower(): value for name, value in self.fields.items()}
        named = (fields.get(name) for name in LANGUAGE_FIELDS)
        codes = (language_code(name) for name in named if isinstance(name, str))
        return next((code for code in codes if code), None)


_ANYWHERE = frozenset((
    *("license", "licence", "copyright", "attribution", "provenance"),
    *("path", "paths", "file", "files", "filename", "filepath", "href", "link", "uri", "url", "urls"),
    *("checksum", "crc", "etag", "guid", "hash", "md5", "sha", "uuid", "idx", "index", "offset"),
    *("created", "updated", "modified", "uploaded", "downloaded", "timestamp", "revision", "version", "commit"),
    *("fold", "split", "subset", "raw", "votes"),
))  # fmt: skip
"""Words that mark a bookkeeping field anywhere in the name."""
_AT_THE_END = frozenset((
    *("id", "ids", "key", "source", "date", "datetime", "time"),
    *("text", "transcript", "transcription", "sentence", "prompt"),
))  # fmt: skip
"""Words that mark one only at the end: ``sentence_id``, but not ``sentence_domain``."""
_SHAPE = re.compile(
    r"[a-z][a-z0-9+.-]*://\S+"  # an address
    r"|(?:/|\./|~/|[a-z]:\\).+"  # a path
    r"|.*[/\\].*\.\w{1,5}"
    r"|.*\.(?:wav|flac|mp3|ogg|opus|m4a|sph|webm|json|txt)"  # a file name
    r"|(?=.*\d)[0-9a-f]{16,}(?:-[0-9a-f-]*)?"  # a digest
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|\d{4}-\d\d-\d\d(?:[t ].*)?",  # a date
    re.IGNORECASE | re.DOTALL,
)
_MOST = 0.9
"""Minimum share of a field's values in such a format."""
_FEWEST = 10
"""More texts than this are needed to decide that a field differs between utterances."""


def bookkeeping_fields(utterances: Sequence[Utterance]) -> set[str]:
    """Bookkeeping fields among the fields of these utterances."""
    names = {name for utterance in utterances for name in utterance.fields}
    return {name for name in names if is_bookkeeping(name, [utterance.fields.get(name) for utterance in utterances])}


def is_bookkeeping(name: str, values: Iterable[FieldValue]) -> bool:
    """True for a bookkeeping field, by its name or by the format of its values.

    >>> is_bookkeeping("accent", ["north", "south"]), is_bookkeeping("licenseName", []), is_bookkeeping("x", ["a.wav"])
    (False, True, True)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    if words and (_ANYWHERE & set(words) or words[-1] in _AT_THE_END):
        return True
    texts = [value for value in values if isinstance(value, str) and value]
    shaped = sum(_SHAPE.fullmatch(text) is not None for text in texts)
    return bool(texts) and shaped >= _MOST * len(texts)


def differs_everywhere(values: Iterable[FieldValue]) -> bool:
    """True if over half of a field's texts are distinct, as for names and transcripts."""
    texts = [value for value in values if isinstance(value, str) and value]
    return len(texts) > _FEWEST and len(set(texts)) > len(texts) / 2


def refuse_shared_speakers(splits: Mapping[str, Sequence[Utterance]]) -> None:
    """Refuse a speaker in two splits: known voices make a test too optimistic.

    Unnamed speakers cannot be compared and are ignored.

    Raises:
        InputError: Names the speakers and the flag.
    """
    speakers = {split: {utterance.speaker for utterance in utterances} for split, utterances in splits.items()}
    names = [split for split in SPLITS if split in speakers]
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            shared = sorted(name for name in speakers[first] & speakers[second] if not name.startswith(UNKNOWN_SPEAKER))
            if shared:
                some = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
                count = f"{len(shared)} speaker{'s are' if len(shared) > 1 else ' is'}"
                raise InputError(
                    "corpus.shared-speakers",
                    f"{count} in both {first} and {second} ({some}); {ALLOW_SHARED_SPEAKERS} accepts that",
                    count,
                )
