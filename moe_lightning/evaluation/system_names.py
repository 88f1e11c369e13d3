"""Names of the systems that one mixture's weights can be decoded as; no torch, for whoever only reads scores."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from moe_lightning.errors import InputError

System = Literal["backbone", "uniform", "label", "best_expert", "utterance_gate", "mixture"]
"""``backbone``: no expert; ``uniform``: all experts in equal parts, no gate; ``label``: the expert of each utterance's
true group, an oracle; ``best_expert``: of all experts' transcripts the one with the fewest word errors, an oracle
that reads the reference; ``utterance_gate``: the mixture, whose gate hears each utterance alone; ``mixture``: as
it was trained, its gate hearing what it is told to."""
GateBy = Literal["auto", "utterance", "speaker"]
"""What the gate hears before it chooses: an utterance, or all of its speaker; ``auto``: as the clusters were made."""
DEFAULT_SYSTEMS: tuple[System, ...] = ("backbone", "mixture")
_LABELS = {"backbone": "the bare backbone", "mixture": "the mixture"}


def label(system: str) -> str:
    """A system as a sentence calls it."""
    return _LABELS.get(system, system)


def called(results: Mapping[str, Any], system: str) -> str:
    """A system as the results name it, else as a sentence does."""
    return str(results["systems"][system].get("label") or label(system))


def check_systems(names: tuple[str, ...]) -> None:
    """Raise an InputError for names of no system; backbone and mixture are always wanted."""
    unknown = [name for name in names if name not in get_args(System)]
    if unknown:
        raise InputError(f"--systems takes {', '.join(get_args(System))}, joined by commas, got {unknown[0]!r}")
    missing = [name for name in DEFAULT_SYSTEMS if name not in names]
    if missing:
        raise InputError(f"--systems must name {missing[0]} too: what is compared is compared with it")
