"""Bookkeeping fields of a manifest: licence, source, path, ids, split, dates, raw labels.

They describe the origin of a recording, not a voice, a room or a microphone. Agreement with one explains no
cluster, and an error rate by licence has no use. The rule has two parts: the words in the field's name, and the
format of its values.
"""

import re
from collections.abc import Iterable, Sequence

from moe_lightning.corpus.utterance import FieldValue, Utterance

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
