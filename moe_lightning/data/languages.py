"""Language codes for the names in corpora: ``fr``, ``fr_FR``, ``fra``, ``French``, ``français``."""

import re
from functools import lru_cache

import langcodes

LANGUAGE_FIELDS = ("language", "lang", "locale", "language_code", "lang_code", "lang_id", "language_id")
"""Manifest fields that may name the language, in any case; the first one with a known language counts."""
_NOT_KNOWN = {"", "und", "unk", "unknown", "mul", "mis", "zxx", "other", "none", "n/a", "na", "nan"}
"""Values for an unknown language."""
_BY_CUSTOM = {"zh-hk": "yue", "zh-mo": "yue", "cmn": "zh", "nb": "no", "fil": "tl", "jv": "jw"}
"""Common Voice and others name Cantonese by its region; for the others Whisper has a code of its own."""

SHORTEST_NAME = 4
"""Latin letters; shorter words are codes, and ``ua`` or ``gr`` are codes of countries."""


@lru_cache(maxsize=4096)
def language_code(name: str) -> str | None:
    """The code for a language: ISO 639-1 (two letters) if there is one, else three letters.

    Args:
        name: A BCP 47 or ISO 639 code, with or without region and script, or a name in some language.

    Returns:
        None if the name means an unknown language. A name that is no language is returned unchanged, so that
        callers can name it in an error.
    """
    plain = name.strip().lower().replace("_", "-")
    if plain in _NOT_KNOWN:
        return None
    if plain in _BY_CUSTOM:
        return _BY_CUSTOM[plain]
    code = langcodes.Language.get(plain).language if langcodes.tag_is_valid(plain) else _by_name(plain)
    return _BY_CUSTOM.get(code, code) if code else name


def _by_name(plain: str) -> str | None:
    """Code of a language's name; None if it is not one.

    The search of langcodes is fuzzy: it finds Hindi in "Indian English". So a name of several words must be the whole
    name of a language ("Scottish Gaelic"), or its last word counts ("Scottish English").
    """
    words = re.sub(r"\(.*?\)", " ", plain).replace("-", " ").split()
    if not words or (words[-1].isascii() and len(words[-1]) < SHORTEST_NAME):
        return None
    try:
        found = langcodes.find(" ".join(words))
    except LookupError:
        found = None
    if found and (len(words) == 1 or found.display_name().lower() == " ".join(words)):
        return found.language
    return _by_name(words[-1]) if len(words) > 1 else None
