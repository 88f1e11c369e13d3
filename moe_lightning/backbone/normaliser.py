"""Text as it is compared: what is spelt differently but said alike counts as the same."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer


@dataclass(frozen=True)
class Normaliser:
    """A way to write text before it is compared."""

    name: str
    """As a result names it, with the version of the library."""
    rewrite: Callable[[str], str]

    def __call__(self, text: str) -> str:
        """Words separated by single spaces; empty when nothing but punctuation was there."""
        return re.sub(r"\s+", " ", self.rewrite(text)).strip()


_VERSION = f"transformers {version('transformers')}"
NORMALISERS = {
    "basic": Normaliser(f"BasicTextNormalizer of {_VERSION}", BasicTextNormalizer()),
    "english": Normaliser(
        f"EnglishTextNormalizer of {_VERSION}, without a table of spellings", EnglishTextNormalizer({})
    ),
}
"""``basic``: lower case, no punctuation, no bracketed remarks; for any language. ``english`` also writes out
contractions and writes numbers as digits."""

normalise = NORMALISERS["basic"]


def normalised(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both sides as they are compared, without the utterances whose reference has no word."""
    pairs = [(normalise(hypothesis), normalise(text)) for hypothesis, text in zip(hypotheses, references, strict=True)]
    kept = [pair for pair in pairs if pair[1]]
    return [hypothesis for hypothesis, _ in kept], [reference for _, reference in kept]
