"""Names of the systems that can be decoded from one mixture's weights; no torch, for code that only reads scores."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from moe_lightning.errors import InputError

System = Literal["backbone", "uniform", "label", "best_expert", "utterance_gate", "mixture"]
"""``backbone``: no expert. ``uniform``: all experts in equal parts, no gate. ``label``: the expert for each
utterance's true group, an oracle. ``best_expert``: the transcript with the fewest word errors among all experts',
an oracle that reads the reference. ``utterance_gate``: the mixture, with a gate that reads each utterance alone.
``mixture``: as trained, with the gate input from `GateBy`.
"""
GateBy = Literal["auto", "utterance", "speaker"]
"""Input of the gate: one utterance, or all of its speaker; ``auto``: as the clusters were made."""
DEFAULT_SYSTEMS: tuple[System, ...] = ("backbone", "mixture")
_LABELS = {"backbone": "the bare backbone", "mixture": "the mixture"}


def label(system: str) -> str:
    """Name of a system in a sentence."""
    return _LABELS.get(system, system)


def called(results: Mapping[str, Any], system: str) -> str:
    """Name of a system from the results, else as in a sentence."""
    return str(results["systems"][system].get("label") or label(system))


def check_systems(names: tuple[str, ...]) -> None:
    """Raise an InputError for an unknown system; backbone and mixture are required."""
    unknown = [name for name in names if name not in get_args(System)]
    if unknown:
        raise InputError(f"--systems takes {', '.join(get_args(System))}, joined by commas, got {unknown[0]!r}")
    missing = [name for name in DEFAULT_SYSTEMS if name not in names]
    if missing:
        raise InputError(f"--systems must name {missing[0]} too: what is compared is compared with it")
