"""Text normalisation for scoring: different spellings of the same words count as equal."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Literal, get_args

from moe_lightning.backbone.basic_text import basic_words
from moe_lightning.backbone.english_text import english_words
from moe_lightning.languages import language_code

Choice = Literal["auto", "basic", "english"]
"""``auto``: Whisper's English normaliser for English, the basic one for every other language and an unknown one."""
NORMALISERS: tuple[Choice, ...] = get_args(Choice)
UNSPACED = frozenset(("zh", "yue", "wuu", "nan", "ja", "th", "lo", "my", "km"))
"""Languages written without spaces between words: Chinese ones, Japanese, Thai, Lao, Burmese, Khmer."""
_MOST_KEPT = 100_000
"""Normalised texts in the cache: every system is compared with the same references."""


@dataclass(frozen=True)
class Normaliser:
    """Text normaliser, chosen by the language of each text."""

    choice: Choice = "auto"

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
