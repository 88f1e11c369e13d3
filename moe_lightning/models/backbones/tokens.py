"""Tokens and labels of transcripts: Whisper's prompt and text tokens, the characters of a CTC model."""

import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, Wav2Vec2CTCTokenizer, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from moe_lightning.errors import InputError

_ENGLISH_VOCABULARY = 51_864
"""Vocabulary of all English-only Whispers; the multilingual ones have 51,865 tokens, or 51,866 from large-v3 on."""
IGNORED = -100
"""Label of a position without loss: the forced prompt, and padding."""
MAX_TOKENS = 448
"""Decoder positions for prompt and text together; Whisper has no more."""
_OLD_CODES = {"jv": "jw", "nb": "no", "fil": "tl", "yue": "zh"}
"""Standard code -> Whisper's own; Cantonese is Chinese to the models before large-v3."""


class Targets(NamedTuple):
    """Teacher forcing: at each position the decoder reads a token and predicts the next one."""

    inputs_BS: Tensor
    """Prompt and text, int64."""
    labels_BS: Tensor
    """Text and end of text, int64; `IGNORED` where the prompt forces the next token."""


class SpeechTokens:
    """A Whisper tokenizer with the prompt of a transcription.

    The prompt of a multilingual model is start, language, task, no timestamps; of an English-only one start and no
    timestamps. The latter's tokenizer may hold the other tokens too, but they mean nothing to the model.

    Args:
        generation: From the model's folder; ``is_multilingual`` separates the two kinds.
        vocab_size: Of the model; identifies an English-only model without ``is_multilingual``.

    Raises:
        InputError: The tokenizer lacks the start of a transcript or the end of text.
    """

    def __init__(self, tokenizer: WhisperTokenizer, generation: GenerationConfig, vocab_size: int):
        self.tokenizer = tokenizer
        self._ids: dict[str, int] = tokenizer.get_vocab()
        for token in ("<|startoftranscript|>", "<|endoftext|>"):
            if token not in self._ids:
                raise InputError(
                    "model.unfit",
                    f"the speech model's tokenizer has no token {token}, so it is none of Whisper's; copy the"
                    " tokenizer's files from the model that this one was fine-tuned from",
                    token,
                )
        self.start = self._ids["<|startoftranscript|>"]
        self.end = self._ids["<|endoftext|>"]
        self.no_speech = self._ids.get("<|nospeech|>", self._ids.get("<|nocaptions|>"))
        """Its probability at the start is Whisper's certainty of silence; None without that token."""
        self.suppressed = list(generation.suppress_tokens or [])
        self.suppressed_first = list(generation.begin_suppress_tokens or [])
        self._forbidden = frozenset(self.suppressed) - {self.end}
        self._symbols = frozenset("".join(tokenizer.batch_decode([[token] for token in self._forbidden])))
        self._detectable: dict[str, int] = dict(getattr(generation, "lang_to_id", None) or {})
        says: bool | None = getattr(generation, "is_multilingual", None)
        has_tasks = "<|transcribe|>" in self._ids and vocab_size != _ENGLISH_VOCABULARY
        self.is_multilingual = has_tasks if says is None else says

    def check_language(self, language: str) -> None:
        """Raise an InputError for a language that the model cannot write."""
        if not self.is_multilingual:
            if language != "en":
                raise InputError(
                    "language.unsupported",
                    f"the speech model is English-only, and the language is {language!r}; take a multilingual one"
                    " (without .en in its name), or leave the utterances of other languages out",
                    language,
                )
        elif self._language_id(language) is None:
            raise InputError(
                "language.unknown",
                f"the speech model knows no language {language!r}; give a code such as en or fr",
                language,
            )

    @property
    def only_language(self) -> str | None:
        """The model's only language, None if it has several."""
        if not self.is_multilingual:
            return "en"
        return next(iter(self._detectable)).strip("<|>") if len(self._detectable) == 1 else None

    def detectable(self) -> tuple[list[str], list[int]]:
        """Codes of the languages that the model can detect, and their tokens.

        Raises:
            InputError: The model detects none: it is English-only, or its generation config has no ``lang_to_id``.
        """
        if not (self.is_multilingual and self._detectable):
            raise InputError(
                "language.missing",
                "the speech model's generation config lists no languages (lang_to_id); give --language",
            )
        return [token.strip("<|>") for token in self._detectable], list(self._detectable.values())

    def prompt(self, language: str | None = None) -> list[int]:
        """Token ids at the start of every transcript, in training and in decoding.

        Raises:
            InputError: The model is multilingual, and the language is missing or has no token.
        """
        no_timestamps = self._ids.get("<|notimestamps|>")
        own: list[int | None] = [self.start, no_timestamps]
        if self.is_multilingual:
            if not language:
                raise InputError(
                    "language.missing",
                    "an utterance names no language, and the speech model writes several; give --language",
                )
            self.check_language(language)
            own = [self.start, self._language_id(language), self._ids["<|transcribe|>"], no_timestamps]
        return [token for token in own if token is not None]

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

    def written(self, tokens: Sequence[int]) -> list[int]:
        """Decoded tokens before the end of text."""
        return list(tokens[: tokens.index(self.end)] if self.end in tokens else tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """Text of decoded tokens, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def writable(self, text: str) -> str:
        """The text without the characters whose tokens the generation config forbids, such as quotation marks.

        A label that decoding can never write teaches the model to want it.
        """
        text = text.strip()
        if self._symbols.isdisjoint(text.replace(" ", "")):
            return text
        for _ in range(_MOST_ROUNDS):
            found = self.tokenizer(" " + text, add_special_tokens=False, return_offsets_mapping=True)
            pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
            spans = [span for token, span in pairs if token in self._forbidden]
            if not spans:
                break
            characters = list(" " + text)
            for start, end in spans:
                characters[start:end] = " " * (end - start)
            text = " ".join("".join(characters).split())
        return text

    @cached_property
    def stops(self) -> list[int]:
        """Tokens of punctuation at the end of a sentence or a part of one."""
        pieces = [self.tokenizer(stop, add_special_tokens=False)["input_ids"] for stop in _STOPS]
        return sorted({ids[0] for ids in pieces if len(ids) == 1})

    def token_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Tokens of a text, and the character behind each; a character of several tokens ends with the last one."""
        found = self.tokenizer(" " + text, add_special_tokens=False, return_offsets_mapping=True)
        ids, ends = list(found["input_ids"]), [end - 1 for _, end in found["offset_mapping"]]
        following = [*ends[1:], len(text) + 1]
        return ids, [end if end < after else -1 for end, after in zip(ends, following, strict=True)]

    def _words(self, text: str) -> list[int]:
        return list(self.tokenizer(" " + text.strip(), add_special_tokens=False)["input_ids"])

    def _row(self, text: str, language: str | None) -> tuple[list[int], list[int]]:
        refuse_control_tokens(text)
        prompt = self.prompt(language)
        words = self._words(text)
        if not self._forbidden.isdisjoint(words):
            words = self._words(self.writable(text))
        if len(prompt) + len(words) > MAX_TOKENS:
            raise InputError(
                "transcript.too-long",
                f"the transcript {text[:60]!r}... has {len(words)} tokens; Whisper holds {MAX_TOKENS - len(prompt)};"
                " split the recording",
                len(words),
            )
        return [*prompt, *words], [*[IGNORED] * (len(prompt) - 1), *words, self.end]

    def _language_id(self, language: str | None) -> int | None:
        code = (language or "").lower()
        known = (code, TO_LANGUAGE_CODE.get(code, ""), _OLD_CODES.get(code, ""), code.split("-")[0])
        return next((self._ids[f"<|{one}|>"] for one in known if f"<|{one}|>" in self._ids), None)


_STOPS = (".", ",", "?", "!", ";", ":", "...", "。", "，", "？", "！", "、", "।", "؟", "،")
_CONTROL = re.compile(r"<\|[^<>|]*\|>")
_MOST_ROUNDS = 5
"""Without a forbidden character its neighbours may make another token; each round removes some."""


def refuse_control_tokens(text: str) -> None:
    """Raise an InputError for a transcript with a token that controls Whisper, such as ``<|endoftext|>``."""
    if found := _CONTROL.search(text):
        raise InputError(
            "transcript.control-token",
            f"the transcript {text[:60]!r} holds {found[0]}, which would control the model instead of being a word;"
            " remove it",
            found[0],
        )


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
            raise InputError(
                "model.unfit", "the tokenizer of the CTC model has no pad token, which stands for the blank"
            )
        largest = max(*tokenizer.encoder.values(), tokenizer.pad_token_id)
        if largest >= vocab_size:
            raise InputError(
                "model.unfit",
                f"the tokenizer has a token {largest}, the CTC head only {vocab_size} columns: they are of two models",
                largest,
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
            raise InputError(
                "transcript.no-words",
                f"the transcript {text[:60]!r} has no character of the CTC model's vocabulary",
                text,
            )
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
