"""Error rate for the headline: of words, or of characters for a language without spaces between words."""

from collections.abc import Iterable
from typing import NamedTuple

from moe_lightning.data.normaliser import has_spaces


class Metric(NamedTuple):
    """An error rate, named for tables and sentences."""

    name: str
    short: str
    """``WER``, ``CER``, or ``WER/CER`` for a mixture of both kinds of languages."""
    units: str
    """Units counted in the references."""

    @property
    def is_mixed(self) -> bool:
        return self.short == MIXED


MIXED = "WER/CER"


def metric_of(languages: Iterable[str | None]) -> Metric:
    """Error rate for utterances in these languages.

    >>> metric_of(["en", None]).name, metric_of(["ja"]).short, metric_of(["en", "zh"]).units
    ('word error rate', 'CER', 'words (characters in zh)')
    """
    kinds = {language: has_spaces(language) for language in set(languages)}
    by_character = ", ".join(sorted(str(language) for language, is_spaced in kinds.items() if not is_spaced))
    if not by_character:
        return Metric("word error rate", "WER", "words")
    if not any(kinds.values()):
        return Metric("character error rate", "CER", "characters")
    name = f"error rate (of characters in {by_character}, else of words)"
    return Metric(name, MIXED, f"words (characters in {by_character})")
