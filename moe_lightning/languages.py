"""Language codes for the names in corpora: ``fr``, ``fr_FR``, ``fra``, ``French``, ``français``."""

from functools import lru_cache

import langcodes

LANGUAGE_FIELDS = ("language", "lang", "locale", "language_code", "lang_id", "language_id")
"""Manifest fields that may name the language; the first non-empty one counts."""
_NOT_KNOWN = {"", "und", "unk", "unknown", "mul", "mis", "zxx", "other", "none", "n/a", "na", "nan"}
"""Values for an unknown language."""
_BY_CUSTOM = {"zh-hk": "yue", "zh-mo": "yue", "cmn": "zh"}
"""Common Voice and others name Cantonese by its region; Mandarin is called Chinese elsewhere."""


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
    if langcodes.tag_is_valid(plain):
        return langcodes.Language.get(plain).language
    try:
        return langcodes.find(plain).language
    except LookupError:
        return name
