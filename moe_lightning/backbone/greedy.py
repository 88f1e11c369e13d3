"""Greedy decoding of a whole batch; an utterance ends once its text loops."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.backbone.loops import LoopWatch, num_before_loop
from moe_lightning.backbone.speech import Hypotheses, Notes
from moe_lightning.backbone.tokens import SpeechTokens

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
