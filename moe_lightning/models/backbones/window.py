"""The window: minimum seconds of audio that a speech model reads. Silence fills up shorter utterances.

A pretrained Whisper has only read 30 s. Over real lengths it repeats itself endlessly until it is trained on them.
"""

import math
from typing import Any, TypeAlias

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
        raise InputError(
            "setting.range",
            f"window must be auto, real, or seconds over 0 and up to {LONGEST:g}, got {window!r}",
            f"window={window}",
        )
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
    trained: Any = getattr(config, "trained_window", LONGEST)
    try:
        seconds = parse_window(trained)
    except (InputError, TypeError, OverflowError):  # float() of null, a list, or an integer of 400 digits
        seconds = None
    if seconds is None:
        raise InputError(
            "model.damaged",
            f"config.json of the speech model {getattr(config, 'name_or_path', '')}: trained_window must be real, or"
            f" seconds over 0 and up to {LONGEST:g}, got {trained!r}; remove it for {LONGEST:g} s",
            f"trained_window={trained}",
        )
    return seconds
