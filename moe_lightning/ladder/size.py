"""How many parameters a run trained, read from its weights' header alone."""

import math
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open

from moe_lightning.errors import InputError
from moe_lightning.json_files import read_json
from moe_lightning.run_dir import RunDir

_NOT_TRAINED = ("gate.mean_D", "gate.std_D")
"""Buffers of the gate: they come from the embeddings."""


@dataclass(frozen=True)
class Size:
    """Size of a finished mixture."""

    rank: int
    """Of one expert."""
    scale: float
    """alpha over rank."""
    total_rank: int
    """Of all experts, the shared one included."""
    num_expert_parameters: int
    num_gate_parameters: int

    @property
    def num_trained(self) -> int:
        """What training moved; a gate over one expert decides nothing and does not count."""
        is_one = self.total_rank == self.rank
        return self.num_expert_parameters + (0 if is_one else self.num_gate_parameters)

    @property
    def equal_rank(self) -> int:
        """Least rank of one LoRA with at least as many parameters as experts and gate together."""
        return math.ceil(self.num_trained / (self.num_expert_parameters / self.total_rank))


def run_size(run: RunDir) -> Size:
    """Size of the mixture that a run ended with.

    Raises:
        MissingInputError: The run has no finished joint stage.
    """
    settings: dict[str, Any] = read_json(run.mixture_config_file, "moe-lightning pipeline")["experts"]
    try:
        with safe_open(run.mixture_file, framework="np") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (OSError, ValueError) as error:
        raise InputError(f"{run.mixture_file} cannot be read ({error}); run `moe-lightning pipeline` again") from error
    counts = {name: math.prod(shape) for name, shape in shapes.items() if name not in _NOT_TRAINED}
    num_gate = sum(count for name, count in counts.items() if name.startswith("gate."))
    total_rank = settings["num_experts"] * settings["rank"] + settings["shared_rank"]
    return Size(
        rank=settings["rank"],
        scale=settings["alpha"] / settings["rank"],
        total_rank=total_rank,
        num_expert_parameters=sum(counts.values()) - num_gate,
        num_gate_parameters=num_gate,
    )
