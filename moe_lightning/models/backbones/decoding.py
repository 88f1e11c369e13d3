"""Greedy decoding of a whole batch, and the guard against loops: an utterance ends once its text loops."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.models.backbones.tokens import MAX_TOKENS, SpeechTokens


@dataclass(frozen=True)
class DecodeOptions:
    """Settings of decoding."""

    max_tokens: int = MAX_TOKENS
    """Most tokens after the prompt; the decoder has 448 positions in all."""
    num_beams: int = 1
    """Hypotheses that a CTC model keeps; 1 takes the likeliest path."""
    guard: bool = True
    """End an utterance whose text loops, and write nothing where ``speech_B`` and the model find no speech.
    Without it, decoding equals that of transformers, token for token.
    """
    speech_B: Tensor | None = None
    """Probability of speech in each utterance (`activity.speech_probs`); None if it was not computed."""


DECODE = DecodeOptions()


class Notes(NamedTuple):
    """Findings of the guard in an utterance."""

    has_looped: bool = False
    """Its text looped, and was cut where a phrase would repeat."""
    is_silenced: bool = False
    """It holds no speech, and has no text."""


class Hypotheses(NamedTuple):
    """Transcripts of a batch, with the model's confidence in them."""

    texts: list[str]
    scores_B: Tensor
    """Mean log-probability of the chosen tokens (frames of a CTC model), float32, at most 0."""
    tokens: list[list[int]]
    """Tokens written after the prompt, without the end of text; labels of a CTC model."""
    notes: list[Notes]


MOST_COMPRESSION = 2.4
"""Characters of a text per byte of its zlib form; repetitive text exceeds it. Radford et al. 2022, section 4.5."""
MOST_CHARACTERS = 20.0
"""Per second: nobody reads aloud faster for long."""
MOST_TOKENS = 50
"""Per second, plus 20 for any utterance; Burmese needs most, about 45."""
LONG_RUN = 24
"""Tokens of a phrase repeated three times or more in a row, at least, that make a loop while decoding."""
RUN_TOKENS = 8
"""Per second: a repetition that fits into the recording at this rate may have been spoken ("no, no, no ...")."""
SHORT_RUN = 40
"""Characters of a phrase repeated twice or more in a row, at least, that make a loop if the text is also too fast."""
LONG_PHRASE, MANY_TIMES = 20, 4
"""Characters of a phrase, and its times in a row, that make a loop at any rate if the text is also too compressible."""


class LoopWatch:
    """Detects repeated phrases while a batch is decoded token by token.

    Args:
        run_B: Tokens of a repetition that make a loop, int64, see `longest_spoken_run`.
    """

    def __init__(self, run_B: Tensor):
        self._run_B1 = run_B[:, None]
        self._tokens_BS = torch.empty(len(run_B), 0, dtype=torch.int64, device=run_B.device)
        self._matches_BL = torch.empty_like(self._tokens_BS)
        """By lag, 1 first: number of last tokens equal to the token that many places before them."""
        self.num_once_B = torch.zeros_like(run_B)
        """Tokens before the phrase repeats, for utterances in a loop."""

    def see(self, token_B: Tensor) -> Tensor:
        """Add the next token of each utterance; True where a loop has reached its tokens, (B,)."""
        matches_BL = (self._matches_BL + 1) * (self._tokens_BS.flip(1) == token_B[:, None])
        self._tokens_BS = torch.cat([self._tokens_BS, token_B[:, None]], dim=1)
        self._matches_BL = F.pad(matches_BL, (0, 1))  # the next token has one more lag
        lag_L = torch.arange(1, matches_BL.shape[1] + 1, device=token_B.device)
        is_run_BL = matches_BL >= torch.maximum(self._run_B1 - lag_L, 2 * lag_L)
        longest_B = F.pad(matches_BL * is_run_BL, (0, 1)).amax(dim=1)
        self.num_once_B = torch.where(longest_B > 0, self._tokens_BS.shape[1] - longest_B, self.num_once_B)
        return longest_B > 0


def longest_spoken_run(seconds_B: Tensor) -> Tensor:
    """Tokens of a repetition beyond what a recording can hold, by its duration; int64."""
    return (RUN_TOKENS * seconds_B).long().clamp(min=LONG_RUN)


def num_before_loop(tokens: Sequence[int], text: str, seconds: float) -> int | None:
    """Tokens of a finished text before a phrase repeats; None without a loop.

    Repetition alone is no loop: people say "no, no, no", and many languages double words. The text must also be
    faster than speech, or a long phrase must come many times.

    Args:
        text: Decoded from the tokens.
        seconds: Duration of the recording.
    """
    if not tokens:
        return None
    tokens_a_character = len(tokens) / max(len(text), 1)
    if len(text) > MOST_CHARACTERS * seconds:
        return _num_said_once(tokens, run=SHORT_RUN * tokens_a_character)
    if compression_ratio(text) > MOST_COMPRESSION:
        return _num_said_once(tokens, phrase=LONG_PHRASE * tokens_a_character, times=MANY_TIMES)
    return None


def compression_ratio(text: str) -> float:
    """Characters of a text per byte of its zlib form; 0 for an empty text.

    For ASCII this is OpenAI's ratio. They count bytes of UTF-8, and so find ordinary prose repetitive in scripts with
    three bytes a letter; here a text's letters are numbered first.

    >>> compression_ratio("one of these, ") < 1 < 2.4 < compression_ratio("one of these, " * 8)
    True
    """
    if text.isascii():
        data = text.encode()
    else:
        number = {letter: place for place, letter in enumerate(dict.fromkeys(text))}
        data = bytes(min(number[letter], 255) for letter in text)
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _num_said_once(tokens: Sequence[int], run: float = 0.0, phrase: float = 1.0, times: int = 2) -> int | None:
    """Tokens before the first immediate repetition.

    Args:
        run: Tokens that all sayings together span, at least.
        phrase: Tokens of the phrase, at least.
        times: Sayings in a row, at least.
    """
    found = []
    for lag in range(max(1, math.ceil(phrase)), len(tokens) // times + 1):
        matches = 0
        for position in range(lag, len(tokens)):
            matches = matches + 1 if tokens[position] == tokens[position - lag] else 0
            if matches >= max((times - 1) * lag, run - lag):
                once = position + 1 - matches
                if not _is_repetitive(tokens[once - lag : once]):
                    found.append(once)
                break
    return min(found, default=None)


def _is_repetitive(phrase: Sequence[int]) -> bool:
    """True if a phrase is a shorter one, repeated."""
    lengths = (length for length in range(1, len(phrase) // 2 + 1) if len(phrase) % length == 0)
    return any(phrase[length:] == phrase[:-length] for length in lengths)


Step = Callable[[Tensor, int], Tensor]
"""Log-probabilities of the next token, (B, V), from the unread tokens, (B, S), and the step number."""


class Spoken(NamedTuple):
    """Most tokens of each utterance by its duration, int64."""

    tokens_B: Tensor
    """In all."""
    run_B: Tensor
    """Of a repeated phrase, see `longest_spoken_run`."""


class Limits(NamedTuple):
    """Most tokens of an utterance after the prompt."""

    most: int
    """For any utterance."""
    spoken: Spoken | None
    """For each utterance; None lets utterances loop."""


class Found(NamedTuple):
    """Result of greedy decoding."""

    tokens_BS: Tensor
    """Chosen tokens, filled up with the end of text."""
    scores_B: Tensor
    """Mean log-probability: of the tokens before a loop, else of all with the end of text; 0 if silent."""
    num_once_B: Tensor
    """Tokens before an utterance's loop, -1 without a loop."""


def greedy(step: Step, prompt_BS: Tensor, is_open_B: Tensor, limits: Limits, end: int) -> Found:
    """Take the likeliest next token until the end of text, a loop or a limit.

    Args:
        is_open_B: Utterances to decode; the others stay empty.
        end: The end-of-text token.
    """
    spoken = limits.spoken
    watch = LoopWatch(spoken.run_B) if spoken else None
    num_once_B, inputs_BS = torch.full_like(prompt_BS[:, 0], -1), prompt_BS
    tokens, log_probs, was_open = [], [], []
    for number in range(limits.most):
        best_B, token_B = step(inputs_BS, number).max(dim=1)
        token_B = torch.where(is_open_B, token_B, end)
        tokens.append(token_B)
        log_probs.append(best_B)
        was_open.append(is_open_B)
        is_open_B = is_open_B & (token_B != end)
        if spoken and watch:
            is_stuck_B = is_open_B & watch.see(token_B)
            num_once_B = torch.where(is_stuck_B, watch.num_once_B, num_once_B)
            is_late_B = is_open_B & ~is_stuck_B & (number + 1 >= spoken.tokens_B)
            num_once_B = torch.where(is_late_B, number + 1, num_once_B)
            is_open_B = is_open_B & ~is_stuck_B & ~is_late_B
        if not is_open_B.any():
            break
        inputs_BS = token_B[:, None]
    return Found(torch.stack(tokens, dim=1), _scores(log_probs, was_open, num_once_B), num_once_B)


def hypotheses(found: Found, writer: SpeechTokens, seconds_B: Tensor | None, is_silent_B: Tensor) -> Hypotheses:
    """Transcripts of the found tokens, cut before a loop.

    Args:
        seconds_B: Durations, to find loops that ended by themselves; None keeps these.
        is_silent_B: Utterances left empty.
    """
    texts, kept, notes = [], [], []
    seconds = [None] * len(is_silent_B) if seconds_B is None else seconds_B.tolist()
    rows = zip(found.tokens_BS.tolist(), found.num_once_B.tolist(), seconds, is_silent_B.tolist(), strict=True)
    for tokens, num_once, length, is_silent in rows:
        tokens = writer.written(tokens)
        text = writer.text(tokens)
        end = None if length is None else num_before_loop(tokens, text, length)
        if num_once >= 0:  # the same text may have begun to repeat itself before
            end = num_once if end is None else min(num_once, end)
        if end is not None:
            tokens = tokens[:end]
            text = writer.text(tokens).rstrip("\ufffd")  # half a letter, where the phrase begins within one
        texts.append(text)
        kept.append(tokens)
        notes.append(Notes(end is not None, is_silent))
    return Hypotheses(texts, found.scores_B, kept, notes)


def _scores(log_probs: list[Tensor], was_open: list[Tensor], num_once_B: Tensor) -> Tensor:
    """Mean log-probability of each utterance's tokens, up to its loop if it has one."""
    is_written_BS = torch.stack(was_open, dim=1)
    place_S = torch.arange(is_written_BS.shape[1], device=num_once_B.device)
    is_written_BS &= (num_once_B[:, None] < 0) | (place_S < num_once_B[:, None])
    sum_B = (torch.stack(log_probs, dim=1) * is_written_BS).sum(dim=1)
    return sum_B / is_written_BS.sum(dim=1).clamp(min=1)


def most_confident(hypotheses: Hypotheses, num_side_by_side: int) -> Hypotheses:
    """The highest-scored of each utterance's K consecutive hypotheses; the first of equals."""
    scores_BK = hypotheses.scores_B.unflatten(0, (-1, num_side_by_side))
    best_B = scores_BK.argmax(dim=1)
    rows = [row * num_side_by_side + best for row, best in enumerate(best_B.tolist())]
    return Hypotheses(
        texts=[hypotheses.texts[row] for row in rows],
        scores_B=scores_BK.gather(1, best_B[:, None])[:, 0],
        tokens=[hypotheses.tokens[row] for row in rows],
        notes=[hypotheses.notes[row] for row in rows],
    )
