"""The rungs of the ladder: what each system is, and the pipeline's flags that make it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from moe_lightning.ladder.size import Size
from moe_lightning.run_dir import Stage

_ENCODED: tuple[Stage, ...] = ("corpus", "embedding")


@dataclass(frozen=True)
class Row:
    """A system of the ladder that is a run of its own."""

    name: str
    words: str
    """What it is, for tables."""
    flags: tuple[str, ...] = ()
    """Laid over the user's own."""
    shared_stages: tuple[Stage, ...] = _ENCODED
    """Those that come out as in the mixture's run of the same seed."""
    systems: tuple[str, ...] = ("backbone", "mixture")
    """What its run's evaluation decodes."""
    is_one_lora: bool = False


MIXTURE = Row(
    "mixture",
    "mixture",
    shared_stages=(*_ENCODED, "clustering", "gating"),
    systems=("backbone", "uniform", "best_expert", "utterance_gate", "mixture"),
)


class Rung(NamedTuple):
    """One line of the table: a system, and where its transcripts are."""

    name: str
    words: str
    row: str
    """The run that decoded it."""
    system: str
    """Its name there."""


CHOICES = ("lora", "lora_equal", "random", "hard", "label")
"""Names of the rows beside the mixture; ``lora_equal``, which the verdict is about, is in every ladder."""


def trained_rows(size: Size, label_field: str | None, names: Sequence[str] = CHOICES) -> list[Row]:
    """The runs beside the mixture's own.

    Args:
        size: Of the mixture: the ranks of the single LoRAs follow from it.
        label_field: Manifest field of the true groups; None leaves that oracle out.
        names: The rows that are wanted.
    """
    small, equal = size.experts.rank, size.equal_rank
    rows = [
        Row("lora", f"one LoRA of rank {small}", one_lora(small, size.experts.scale), is_one_lora=True),
        Row(
            "lora_equal",
            f"one LoRA of equal size (rank {equal})",
            one_lora(equal, size.experts.scale),
            is_one_lora=True,
        ),
        Row("random", "mixture of random clusters", ("--clustering-algorithm", "random")),
        Row(
            "hard",
            "mixture, one expert an utterance",
            ("--set", "moe.model.routing=hard"),
            (*_ENCODED, "clustering", "gating", "experts"),
        ),
    ]
    if label_field:
        flags = ("--clustering-algorithm", "label", "--label-field", label_field)
        rows.append(Row("label", f"mixture of the true {label_field}", flags, systems=("backbone", "mixture", "label")))
    return [row for row in rows if row.name in names or row.name == "lora_equal"]


def rungs(rows: Sequence[Row]) -> list[Rung]:
    """The lines of the table, from what one has without training to the oracles."""
    words = {row.name: row.words for row in rows}
    lines = [
        Rung("backbone", "bare backbone", "mixture", "backbone"),
        *(Rung(name, words[name], name, "mixture") for name in ("lora", "lora_equal", "random") if name in words),
        Rung("uniform", "the mixture's experts in equal parts", "mixture", "uniform"),
        *(Rung(name, words[name], name, "mixture") for name in ("hard",) if name in words),
        Rung("utterance_gate", "mixture, its gate hearing each utterance alone", "mixture", "utterance_gate"),
        Rung("mixture", words["mixture"], "mixture", "mixture"),
    ]
    if "label" in words:
        lines.append(Rung("label_gate", f"{words['label']}, by the gate in tests", "label", "mixture"))
        lines.append(Rung("label", f"{words['label']}, known in tests (oracle)", "label", "label"))
    return [*lines, Rung("best_expert", "best expert of each utterance (oracle)", "mixture", "best_expert")]


def one_lora(rank: int, scale: float) -> tuple[str, ...]:
    """Flags of the same pipeline with one expert: plain LoRA, as many steps over the same utterances.

    Args:
        scale: What the deltas are multiplied by, as in the mixture.
    """
    settings = {"rank": rank, "alpha": f"{scale * rank:g}", "shared_rank": 0, "rslora": "false", "noop_expert": "false"}
    stages: Sequence[Stage] = ("experts", "moe")
    size = [f"--set={stage}.model.{name}={value}" for stage in stages for name, value in settings.items()]
    return ("--clustering-algorithm", "random", "--num-experts", "1", *size)
