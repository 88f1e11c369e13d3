"""Systems of the ladder: their sizes, and the pipeline flags for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from safetensors import safe_open

from moe_lightning.errors import InputError
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.run.folder import RunDir
from moe_lightning.run.stages import Stage
from moe_lightning.system.json_files import read_json_object

_NOT_TRAINED = (".mean_D", ".std_D")
"""Name endings of the gate's buffers: they are computed from the embeddings."""


@dataclass(frozen=True)
class Size:
    """Size of a finished mixture."""

    experts: ExpertConfig
    num_expert_parameters: int
    num_gate_parameters: int

    @property
    def num_trained(self) -> int:
        """Number of trained parameters; a gate for a single expert has no effect and does not count."""
        return self.num_expert_parameters + (self.num_gate_parameters if self.experts.num_experts > 1 else 0)

    @property
    def equal_rank(self) -> int:
        """Smallest rank at which one LoRA has at least as many parameters as experts and gate together."""
        return math.ceil(self.num_trained / (self.num_expert_parameters / self.experts.total_rank))


def run_size(run: RunDir) -> Size:
    """Size of a run's final mixture.

    Raises:
        MissingInputError: The run has no finished joint stage.
        InputError: The weights cannot be read.
    """
    file = run.mixture_config_file
    config = ExpertConfig.of(read_json_object(file, "moe-lightning pipeline", {"experts": dict})["experts"], file)
    try:
        with safe_open(run.mixture_file, framework="np") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own error, and is not typed
        raise InputError(
            "file.unreadable",
            f"{run.mixture_file} cannot be read ({error}); run `moe-lightning pipeline` again",
            run.mixture_file,
        ) from error
    counts = {name: math.prod(shape) for name, shape in shapes.items() if not name.endswith(_NOT_TRAINED)}
    num_gate = sum(count for name, count in counts.items() if name.startswith("gate."))
    return Size(config, sum(counts.values()) - num_gate, num_gate)


_ENCODED: tuple[Stage, ...] = ("corpus", "embedding")


@dataclass(frozen=True)
class Row:
    """A system of the ladder with a run of its own."""

    name: str
    words: str
    """Description for tables."""
    flags: tuple[str, ...] = ()
    """Override the user's flags."""
    shared_stages: tuple[Stage, ...] = _ENCODED
    """Stages with the same result as in the mixture's run with the same seed."""
    systems: tuple[str, ...] = ("backbone", "mixture")
    """Systems decoded by its run's evaluation."""
    is_one_lora: bool = False


MIXTURE = Row(
    "mixture",
    "mixture",
    shared_stages=(*_ENCODED, "clustering", "gating"),
    systems=("backbone", "uniform", "best_expert", "utterance_gate", "mixture"),
)


class Rung(NamedTuple):
    """One line of the table: a system, and the source of its transcripts."""

    name: str
    words: str
    row: str
    """Row whose run decoded it."""
    system: str
    """Its name in that run."""


CHOICES = ("lora", "lora_equal", "random", "hard", "label")
"""Names of the rows besides the mixture; ``lora_equal``, the subject of the verdict, is in every ladder."""


def trained_rows(size: Size, label_field: str | None, names: Sequence[str] = CHOICES) -> list[Row]:
    """Rows besides the mixture.

    Args:
        size: Size of the mixture; it determines the ranks of the single LoRAs.
        label_field: Manifest field of the true groups; None leaves that oracle out.
        names: Requested rows.
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
    """Lines of the table, from systems without training to the oracles."""
    words = {row.name: row.words for row in rows}
    lines = [
        Rung("backbone", "bare backbone", "mixture", "backbone"),
        *(Rung(name, words[name], name, "mixture") for name in ("lora", "lora_equal", "random") if name in words),
        Rung("uniform", "the mixture's experts in equal parts", "mixture", "uniform"),
        *(Rung(name, words[name], name, "mixture") for name in ("hard",) if name in words),
        Rung("utterance_gate", "mixture, its gate reading each utterance alone", "mixture", "utterance_gate"),
        Rung("mixture", words["mixture"], "mixture", "mixture"),
    ]
    if "label" in words:
        lines.append(Rung("label_gate", f"{words['label']}, by the gate in tests", "label", "mixture"))
        lines.append(Rung("label", f"{words['label']}, known in tests (oracle)", "label", "label"))
    return [*lines, Rung("best_expert", "best expert of each utterance (oracle)", "mixture", "best_expert")]


def one_lora(rank: int, scale: float) -> tuple[str, ...]:
    """Flags for the same pipeline with one expert: plain LoRA, with equal steps and utterances.

    Args:
        scale: Scaling of the LoRA deltas, as in the mixture.
    """
    settings = {"rank": rank, "alpha": f"{scale * rank:g}", "shared_rank": 0, "rslora": "false", "noop_expert": "false"}
    size = [f"--set=experts.model.{name}={value}" for name, value in settings.items()]
    return ("--clustering-algorithm", "random", "--num-experts", "1", *size)
