"""The window: minimum seconds of audio that a speech model reads. Silence fills up shorter utterances.

A pretrained Whisper has only read 30 s. Over real lengths it repeats itself endlessly until it is trained on them.
"""

import math
from typing import TypeAlias

from moe_lightning.errors import InputError

Window: TypeAlias = str | float
"""A setting: ``auto`` (the model's training window), ``real`` (real lengths), or seconds."""
REAL = 0.0
"""A resolved window of no seconds: every utterance has its real length."""
LONGEST = 30.0
"""Seconds of Whisper's position embeddings."""


def parse_window(window: Window) -> float | None:
    """A window in seconds; `REAL` for real lengths, None for ``auto``.

    Raises:
        InputError: It is no window: not positive, or over 30 s.
    """
    if window == "auto":
        return None
    if window == "real":
        return REAL
    try:
        seconds = float(window)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise InputError(f"window must be auto, real, or seconds over 0 and up to {LONGEST:g}, got {window!r}")
    return seconds


def window_words(seconds: float) -> str:
    """A resolved window as a user would write it: ``real``, ``30``."""
    return "real" if seconds == REAL else f"{seconds:g}"


def own_window(config: object, kind: str) -> float:
    """Training window of a model in seconds.

    Args:
        config: From transformers. A model trained here over real lengths has ``"trained_window": "real"``.
        kind: The config's ``model_type``. Every Whisper without that field was trained with 30 s.

    Raises:
        InputError: The field is no window.
    """
    if kind != "whisper":
        return REAL
    return parse_window(getattr(config, "trained_window", LONGEST)) or REAL
