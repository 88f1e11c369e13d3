"""Conversion between text and a CTC model's labels."""

import re
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import Wav2Vec2CTCTokenizer

from moe_lightning.backbone.tokens import IGNORED, Targets
from moe_lightning.errors import InputError


class CTCTokens:
    """Vocabulary of a CTC model: characters, or pieces of several; its delimiter separates words.

    Text is converted to the vocabulary's case if that has only one. Characters outside the vocabulary are left
    out of the labels: the model cannot write them, and its unknown token is no sound.

    Args:
        vocab_size: Columns of the model's head.

    Raises:
        InputError: The tokenizer has no token for the blank, or more tokens than the head has columns.
    """

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer, vocab_size: int):
        if tokenizer.pad_token_id is None:
            raise InputError("the tokenizer of the CTC model has no pad token, which stands for the blank")
        largest = max(*tokenizer.encoder.values(), tokenizer.pad_token_id)
        if largest >= vocab_size:
            raise InputError(
                f"the tokenizer has a token {largest}, the CTC head only {vocab_size} columns: they are of two models"
            )
        self.tokenizer = tokenizer
        self.blank = int(tokenizer.pad_token_id)
        self._silent = set(tokenizer.all_special_ids) - {tokenizer.word_delimiter_token_id}
        special = set(tokenizer.all_special_tokens)
        letters = "".join(token for token in tokenizer.get_vocab() if token not in special)
        self._has_upper = letters != letters.lower() or bool(tokenizer.do_lower_case)
        self._has_lower = letters != letters.upper()
        self._has_warned = False

    def targets(self, texts: Sequence[str]) -> Targets:
        """Labels of transcripts; ``inputs_BS`` repeats them, since a CTC model reads no text.

        Raises:
            InputError: A transcript has no character in the vocabulary.
        """
        rows = [self.labels(text) for text in texts]
        labels_BS = torch.full((len(rows), max(len(row) for row in rows)), IGNORED)
        for row, labels in enumerate(rows):
            labels_BS[row, : len(labels)] = torch.tensor(labels)
        return Targets(labels_BS, labels_BS)

    def labels(self, text: str) -> list[int]:
        """Token ids of a transcript, without characters outside the vocabulary."""
        text = " ".join(text.split())
        if not (self._has_upper and self._has_lower):
            text = text.upper() if self._has_upper else text.lower()
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        known = [token for token in ids if token not in self._silent]
        if len(known) < len(ids):
            self._warn_once(text)
        labels = self._between_words(known)
        if not labels:
            raise InputError(f"the transcript {text[:60]!r} has no character of the CTC model's vocabulary")
        return labels

    def text(self, labels: Sequence[int]) -> str:
        """Text of collapsed labels (no repeats, no blanks), without special tokens."""
        kept = [token for token in labels if token not in self._silent]
        text = self.tokenizer.decode(kept, group_tokens=False)
        return re.sub(r"\s+", " ", text).strip()

    def _between_words(self, tokens: list[int]) -> list[int]:
        """The tokens with one delimiter between words and none at either end."""
        delimiter: Any = self.tokenizer.word_delimiter_token_id
        words = [list(group) for is_gap, group in groupby(tokens, delimiter.__eq__) if not is_gap]
        return [token for word in words for token in (delimiter, *word)][1:]

    def _warn_once(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the CTC model has no token for all of {text[:60]!r}: what it cannot write is left out of the labels",
                stacklevel=3,
            )
