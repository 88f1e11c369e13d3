"""Loops: a failing decoder repeats the same phrase endlessly.

An utterance is cut where the phrase would start for the second time. Measured with OpenAI's weights over real
lengths (docs/window.md), this keeps the whole sentence; decoding the utterance again with repeated phrases
forbidden invents new ones.
"""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_COMPRESSION = 2.4
"""Bytes of a text per byte of its zlib form; repetitive text exceeds it. Radford et al. 2022, section 4.5."""
MOST_CHARACTERS = 20.0
"""Per second: nobody reads aloud faster for long."""
MOST_TOKENS = 50
"""Per second, plus 20 for any utterance; Burmese needs most, about 45."""
LONG_RUN = 24
"""Tokens of a phrase repeated three times or more in a row; no utterance recovers from that."""
SHORT_RUN = 12
"""Tokens of a phrase repeated twice or more in a row: a loop if the text is also too compressible, or too fast."""


class LoopWatch:
    """Detects repeated phrases while a batch is decoded token by token.

    Args:
        num_utterances: Batch size.
    """

    def __init__(self, num_utterances: int, device: torch.device):
        self._tokens_BS = torch.empty(num_utterances, 0, dtype=torch.int64, device=device)
        self._matches_BL = torch.empty_like(self._tokens_BS)
        """By lag, 1 first: number of last tokens equal to the token that many places before them."""
        self.num_once_B = torch.zeros(num_utterances, dtype=torch.int64, device=device)
        """Tokens before the phrase repeats, for utterances in a loop."""

    def see(self, token_B: Tensor) -> Tensor:
        """Add the next token of each utterance; True where a loop has reached `LONG_RUN` tokens, (B,)."""
        matches_BL = (self._matches_BL + 1) * (self._tokens_BS.flip(1) == token_B[:, None])
        self._tokens_BS = torch.cat([self._tokens_BS, token_B[:, None]], dim=1)
        self._matches_BL = F.pad(matches_BL, (0, 1))  # the next token has one more lag
        lag_L = torch.arange(1, matches_BL.shape[1] + 1, device=token_B.device)
        is_run_BL = matches_BL >= torch.maximum(LONG_RUN - lag_L, 2 * lag_L)
        longest_B = F.pad(matches_BL * is_run_BL, (0, 1)).amax(dim=1)
        self.num_once_B = torch.where(longest_B > 0, self._tokens_BS.shape[1] - longest_B, self.num_once_B)
        return longest_B > 0


def num_before_loop(tokens: Sequence[int], text: str, seconds: float) -> int | None:
    """Tokens of a finished text before a phrase repeats; None without a loop.

    Args:
        text: Decoded from the tokens.
        seconds: Duration of the recording.
    """
    if compression_ratio(text) <= MOST_COMPRESSION and len(text) <= MOST_CHARACTERS * seconds:
        return None
    return _num_said_once(tokens)


def compression_ratio(text: str) -> float:
    """Bytes of a text per byte of its zlib form, as OpenAI computes it; 0 for an empty text.

    >>> compression_ratio("one of these, ") < 1 < 2.4 < compression_ratio("one of these, " * 8)
    True
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _num_said_once(tokens: Sequence[int]) -> int | None:
    """Tokens before the first immediate repetition that spans `SHORT_RUN` tokens or more in all."""
    found = []
    for lag in range(1, len(tokens) // 2 + 1):
        matches = 0
        for position in range(lag, len(tokens)):
            matches = matches + 1 if tokens[position] == tokens[position - lag] else 0
            if matches >= max(lag, SHORT_RUN - lag):
                found.append(position + 1 - matches)
                break
    return min(found, default=None)
