"""Text to Whisper's tokens and back, with the same prompt in training and in decoding."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from moe_lightning.errors import InputError

IGNORED = -100
"""Label of a position that no loss is taken on: the forced prompt, and padding."""
MAX_TOKENS = 448
"""Prompt, text and end of text together; Whisper has no further position."""


class Targets(NamedTuple):
    """Teacher forcing: at each position the decoder reads a token and is to say the next one."""

    inputs_BS: Tensor
    """Prompt and text, int64."""
    labels_BS: Tensor
    """Text and end of text, int64; `IGNORED` where the prompt forces the next token."""


class SpeechTokens:
    """A Whisper tokenizer and the prompt of a transcription: start, language, task, no timestamps.

    Raises:
        InputError: The model has language tokens, but none for the default language.
    """

    def __init__(self, tokenizer: WhisperTokenizer, generation: GenerationConfig, language: str = "en"):
        self.tokenizer = tokenizer
        self._ids: dict[str, int] = tokenizer.get_vocab()
        self.start = self._ids["<|startoftranscript|>"]
        self.end = self._ids["<|endoftext|>"]
        self.language = language
        self.suppressed = list(generation.suppress_tokens or [])
        self.suppressed_first = list(generation.begin_suppress_tokens or [])
        self.check_language(language)

    def check_language(self, language: str) -> None:
        """Raise an InputError for a language that the model has no token for; an English-only model takes any."""
        if "<|transcribe|>" in self._ids and self._language_id(language) is None:
            raise InputError(f"the speech model knows no language {language!r}; give a code such as en or fr")

    def prompt(self, language: str | None = None) -> list[int]:
        """Token ids that every transcript begins with, in training and in decoding.

        A language that the model has no token for is spoken to as the default language; an
        English-only model has neither language nor task tokens.
        """
        no_timestamps = self._ids.get("<|notimestamps|>")
        task = self._ids.get("<|transcribe|>")
        spoken = self._language_id(language) or self._language_id(self.language)
        if task is None or spoken is None:
            return [token for token in (self.start, no_timestamps) if token is not None]
        return [token for token in (self.start, spoken, task, no_timestamps) if token is not None]

    def targets(self, texts: Sequence[str], languages: Sequence[str | None]) -> Targets:
        """Decoder inputs and labels of transcripts; the end of text is a label like any other.

        Raises:
            InputError: A transcript has more tokens than the decoder has positions.
        """
        rows = [self._row(text, language) for text, language in zip(texts, languages, strict=True)]
        width = max(len(inputs) for inputs, _ in rows)
        inputs_BS = torch.full((len(rows), width), self.end)
        labels_BS = torch.full((len(rows), width), IGNORED)
        for row, (inputs, labels) in enumerate(rows):
            inputs_BS[row, : len(inputs)] = torch.tensor(inputs)
            labels_BS[row, : len(labels)] = torch.tensor(labels)
        return Targets(inputs_BS, labels_BS)

    def text(self, tokens: Sequence[int]) -> str:
        """The words of decoded tokens, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def _row(self, text: str, language: str | None) -> tuple[list[int], list[int]]:
        prompt = self.prompt(language)
        words = self.tokenizer(" " + text.strip(), add_special_tokens=False)["input_ids"]
        if len(prompt) + len(words) > MAX_TOKENS:
            raise InputError(
                f"the transcript {text[:60]!r}... has {len(words)} tokens; Whisper holds {MAX_TOKENS - len(prompt)};"
                " split the recording"
            )
        return [*prompt, *words], [*[IGNORED] * (len(prompt) - 1), *words, self.end]

    def _language_id(self, language: str | None) -> int | None:
        if not language:
            return None
        code = language.lower()
        return self._ids.get(f"<|{TO_LANGUAGE_CODE.get(code, code.split('-')[0])}|>")
