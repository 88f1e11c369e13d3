"""Number of trained parameters in a run, read only from the header of its weights."""

import math
from dataclasses import dataclass

from safetensors import safe_open

from moe_lightning.errors import InputError
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.run.folder import RunDir
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
        raise InputError(f"{run.mixture_file} cannot be read ({error}); run `moe-lightning pipeline` again") from error
    counts = {name: math.prod(shape) for name, shape in shapes.items() if not name.endswith(_NOT_TRAINED)}
    num_gate = sum(count for name, count in counts.items() if name.startswith("gate."))
    return Size(config, sum(counts.values()) - num_gate, num_gate)
