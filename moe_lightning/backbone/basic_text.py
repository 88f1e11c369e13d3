"""Words of any language for scoring: Whisper's basic normaliser, but combining marks of letters are kept.

Whisper's rules (appendix C of its paper) replace every combining mark by a space, so the vowel signs of
Hindi, Tamil or Thai count as punctuation: ``हिन्दी`` becomes ``ह न द``. Here a mark after a letter stays.
"""

import unicodedata

from transformers.models.whisper.english_normalizer import BasicTextNormalizer

_DOTLESS = ("tr", "az")
"""Languages with ı as the small letter of I."""
_ARABIC_POINTS = frozenset("\u0670" + "".join(map(chr, range(0x064B, 0x0653))))
"""Signs of short vowels and doubled consonants: usual spelling has none."""
_TATWEEL = "\u0640"
"""A stroke that only lengthens an Arabic word."""
_HEBREW_POINTS = frozenset(map(chr, range(0x0591, 0x05C8)))
"""Vowel points and accents; only Yiddish spells with them."""


def basic_words(text: str, language: str | None = None) -> str:
    """Normalised words: lower case, no punctuation, no bracketed remarks.

    Vowel points are removed, since usual Arabic and Hebrew spelling omits them. Figures and numbers in words
    stay different.

    Args:
        language: Its code: Turkish and Azerbaijani have their own small letters, Yiddish keeps Hebrew points.

    >>> basic_words("C'est déjà l'été!"), basic_words("हिन्दी, भाषा।"), basic_words("IŞIK", "tr")
    ('c est déjà l été', 'हिन्दी भाषा', 'ışık')
    """
    if language in _DOTLESS:
        text = text.replace("I", "ı")
    rules = BasicTextNormalizer()
    rules.clean = lambda s: _letters(s, language)
    return rules(text.replace("İ", "i"))


def _letters(text: str, language: str | None) -> str:
    """Letters with their marks, and digits; a space for symbols and punctuation."""
    points = _ARABIC_POINTS if language == "yi" else _ARABIC_POINTS | _HEBREW_POINTS
    kept: list[str] = []
    is_on_letter = False
    for character in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(character)
        if kind[0] == "M":
            kept.append(character if is_on_letter and kind != "Me" and character not in points else "")
        elif character != _TATWEEL:
            kept.append(" " if kind[0] in "SP" else character)
            is_on_letter = kind[0] == "L"
    return "".join(kept)
