"""English words for scoring: Whisper's English normaliser, with numbers alike in figures and words.

Rules of A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), appendix C, in
transformers' version, with OpenAI's table of British and American spellings from whisper-normalizer.
"""

import json
import re
from functools import cache
from importlib.resources import files

from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer, EnglishTextNormalizer

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
