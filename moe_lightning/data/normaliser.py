"""Text normalisation before words are compared."""

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Literal

from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishNumberNormalizer,
    EnglishTextNormalizer,
)

from moe_lightning.data.languages import language_code
from moe_lightning.settings.evaluation import NormaliserChoice

_DOTLESS = ("tr", "az")
"""Languages with ı as the small letter of I."""
_OKINA = {"haw": re.compile(r"'(?=\w)"), "uz": re.compile(r"'(?=\w)|(?<=[ogOG])'")}
"""Languages with a letter that is written like an apostrophe (U+02BB), at its usual places."""
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
        language: Its code: Turkish and Azerbaijani have their own small letters, Yiddish keeps Hebrew points, the
            apostrophe of Hawaiian and Uzbek is a letter.

    >>> basic_words("C'est déjà l'été!"), basic_words("हिन्दी, भाषा।"), basic_words("IŞIK", "tr")
    ('c est déjà l été', 'हिन्दी भाषा', 'ışık')
    """
    if language in _DOTLESS:
        text = text.replace("I", "ı")
    if language in _OKINA:
        text = _OKINA[language].sub("\u02bb", text)
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


_LONGEST_NUMBER = 15
"""Most digits of a figure passed to Whisper's rules in one piece."""
_SIGN = re.compile(r"(?<!\S)([-−+])(?=[$€£¢]?\d)")
_SIGN_NAMES = {"-": "minus ", "−": "minus ", "+": "plus "}
_LISTED = re.compile(r"\b\d(?:,\d)+\b")
"""Single digits between commas: no groups of thousands."""
_DOTTED = re.compile(r"\d+(?:\.\d+){2,}")
"""Digits between points, such as ``9.4.7`` or ``192.168.0.1``: no decimal number."""
_CODE = re.compile(rf"(?<![\d.])0\d+|\d{{{_LONGEST_NUMBER + 1},}}")
"""A figure that begins with zero, or is too long for a number: its digits were said one by one."""
_POINT_ZERO = re.compile(r"(?<![$€£\d.])(\d+)\.(?=0+\b)")
"""The point of ``2.0``, but not of an amount: ``$5.00`` equals ``$5``."""


def english_words(text: str) -> str:
    """Normalised words; every digit of a number is one word.

    Whisper's rules write ``six two two six`` as ``6226`` and leave ``6 2 2 6`` alone. With separate digits the two
    are equal, and a wrong digit is one error, not a wrong string. Whisper's rules spell out a lone 1, more often a
    pronoun than a figure. Here every digit is alone, so every 1 is spelt out. A decimal point is a word.

    >>> english_words("Twenty-one colours cost $6,226; that's 3.5 %.")
    '2 one colors cost $6 2 2 6 that is 3 point 5%'
    """
    text = _whisper()(_figures_as_said(text))
    text = re.sub(r"[.$¢€£](?!\d)|(?<!\d)%", " ", text)  # their rules leave some that belong to no figure
    return re.sub(r"(?<!\S)1(s?)(?!\S)", r"one\1", text)


class _DigitsApart(EnglishNumberNormalizer):
    """Whisper's rules for numbers, plus a last step that puts a space between digits."""

    def postprocess(self, s: str) -> str:
        text = re.sub(r"\bone(s?)\b", r"1\1", super().postprocess(s))  # no other ``one`` is left by these rules
        text = _DOTTED.sub(lambda figure: figure[0].replace(".", " "), text)
        text = re.sub(r"\.(?=\d)", " point ", text)
        return re.sub(r"(?<=\d)(?=\d)", " ", text)


@cache
def _whisper() -> EnglishTextNormalizer:
    table = files("whisper_normalizer") / "normalizers" / "english.json"
    rules = EnglishTextNormalizer(json.loads(table.read_text(encoding="utf-8")))
    rules.standardize_numbers = _DigitsApart()
    return rules


def _figures_as_said(text: str) -> str:
    """Correct omissions of Whisper's rules: signs, zeros at both ends, digits between commas, points, ``ninth``."""
    text = re.sub(r"\.(?!\d)", " ", text)  # theirs leave one of three points: ``well...`` would be two words
    text = _SIGN.sub(lambda sign: _SIGN_NAMES[sign[1]], text)
    text = re.sub(r"(?<=\d)\s+%", "%", text)
    text = _LISTED.sub(lambda figure: figure[0].replace(",", " "), text)
    text = _DOTTED.sub(lambda figure: figure[0].replace(".", " "), text)
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = _POINT_ZERO.sub(r"\1 point ", text)
    text = _CODE.sub(lambda figure: " ".join(figure[0]), text)
    return re.sub(r"\bninth\b", "nineth", text, flags=re.IGNORECASE)  # the spelling in their table of ordinals


UNSPACED = frozenset(("zh", "yue", "wuu", "nan", "ja", "th", "lo", "my", "km"))
"""Languages written without spaces between words: Chinese ones, Japanese, Thai, Lao, Burmese, Khmer."""
_MOST_KEPT = 100_000
"""Normalised texts in the cache: every system is compared with the same references."""


@dataclass(frozen=True)
class Normaliser:
    """Text normaliser, chosen by the language of each text."""

    choice: NormaliserChoice = "auto"

    def __call__(self, text: str, language: str | None) -> str:
        """Words separated by single spaces; empty if the text holds only punctuation.

        Args:
            language: Any name known to `language_code`; None if unknown.
        """
        return _normalised(self.kind(language), text, _code(language))

    def units(self, text: str, language: str | None) -> str:
        """Normalised text with separated scoring units: words, or characters in a language without spaces."""
        text = self(text, language)
        return text if has_spaces(language) else " ".join(text.replace(" ", ""))

    def kind(self, language: str | None) -> Literal["basic", "english"]:
        """The normaliser of a language."""
        if self.choice != "auto":
            return self.choice
        return "english" if _code(language) == "en" else "basic"

    def name(self, languages: Collection[str | None]) -> str:
        """Name and version of the normaliser for texts in these languages, for tables and results."""
        by_kind: dict[str, set[str]] = {}
        for language in languages:
            by_kind.setdefault(self.kind(language), set()).add(_code(language) or "unknown language")
        names = {kind: _names()[kind] for kind in sorted(by_kind, reverse=True)}
        if len(names) == 1:
            return next(iter(names.values()))
        return "; ".join(f"{', '.join(sorted(by_kind[kind]))}: {name}" for kind, name in names.items())


def has_spaces(language: str | None) -> bool:
    """True for a language with spaces between words, and for an unknown one."""
    return _code(language) not in UNSPACED


def normalised(
    hypotheses: Sequence[str], references: Sequence[str], languages: Sequence[str | None]
) -> tuple[list[str], list[str]]:
    """Scoring units of both sides, without utterances whose reference is empty."""
    units = Normaliser().units
    triples = zip(hypotheses, references, languages, strict=True)
    pairs = [(units(hypothesis, language), units(text, language)) for hypothesis, text, language in triples]
    kept = [pair for pair in pairs if pair[1]]
    return [hypothesis for hypothesis, _ in kept], [reference for _, reference in kept]


@lru_cache(_MOST_KEPT)
def _normalised(kind: str, text: str, language: str | None) -> str:
    words = english_words(_plain(text)) if kind == "english" else basic_words(_plain(text), language)
    return re.sub(r"\s+", " ", words).strip()


def _code(language: str | None) -> str | None:
    return language_code(language) if language else None


def _plain(text: str) -> str:
    """Text with one kind of apostrophe (Whisper's rules know ``don't``, not ``don’t``) and no invisible character."""
    text = re.sub("[\u2018\u2019\u02bb\u02bc\u00b4`]", "'", text.replace("\u200b", " "))
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


@cache
def _names() -> dict[str, str]:
    library, table = f"transformers {version('transformers')}", f"whisper-normalizer {version('whisper-normalizer')}"
    return {
        "basic": f"Whisper's basic normaliser ({library}), marks of letters kept",
        "english": f"Whisper's English normaliser ({library}, spellings of {table}), each digit a word",
    }
