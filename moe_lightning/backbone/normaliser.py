"""Text as it is compared: what is spelt differently but said alike counts as the same."""

import re
from collections.abc import Sequence

from transformers.models.whisper.english_normalizer import BasicTextNormalizer

NORMALISER = "transformers.BasicTextNormalizer"
"""Lower case, no punctuation, no bracketed remarks; for any language."""

_normalise = BasicTextNormalizer()


def normalise(text: str) -> str:
    """Words separated by single spaces; empty when nothing but punctuation was there."""
    return re.sub(r"\s+", " ", _normalise(text)).strip()


def normalised(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both sides as they are compared, without the utterances whose reference has no word."""
    pairs = [(normalise(hypothesis), normalise(text)) for hypothesis, text in zip(hypotheses, references, strict=True)]
    kept = [pair for pair in pairs if pair[1]]
    return [hypothesis for hypothesis, _ in kept], [reference for _, reference in kept]
