"""Languages as corpora write them: ``fr``, ``fr_FR``, ``fra``, ``French``, ``français``; and their one code."""

from functools import lru_cache

import langcodes

LANGUAGE_FIELDS = ("language", "lang", "locale", "language_code", "lang_id", "language_id")
"""Fields of a manifest that name the language; the first one that is filled in counts."""
_NOT_KNOWN = {"", "und", "unk", "unknown", "mul", "mis", "zxx", "other", "none", "n/a", "na", "nan"}
"""Values that say that the language is not known."""
_BY_CUSTOM = {"zh-hk": "yue", "zh-mo": "yue", "cmn": "zh"}
"""Common Voice and others name Cantonese by its place; Mandarin is what others call Chinese."""


@lru_cache(maxsize=4096)
def language_code(name: str) -> str | None:
    """The code of a language: of two letters where it has one (ISO 639-1), else of three.

    Args:
        name: A code of BCP 47 or ISO 639, with or without a place and a script, or a name in some language.

    Returns:
        None where the name says that the language is not known. A name that stands for no language is returned as
        it is, so that whoever needs the language can refuse it by name.
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
