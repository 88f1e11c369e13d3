"""Start of the joint stage, from the gate and experts that the earlier stages have trained."""

from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.experts.expert_file import load_experts
from moe_lightning.gating.model import load_gate
from moe_lightning.json_files import read_json_object
from moe_lightning.moe.model import MixtureASR, MixtureConfig
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import require_trained
from moe_lightning.training.weights import read_state

_GATE_MADE_BY = "python -m moe_lightning.gating fit --config configs/gating.yaml"


def load_stages_before(mixture: MixtureASR, run: RunDir) -> None:
    """Load the trained gate and the pre-trained experts of a run into a mixture.

    Raises:
        InputError: A stage has not finished, or its weights are of another size.
    """
    gate_file = require_trained(run.gate_file, "gating")
    experts_file = require_trained(run.pretrained_experts_file, "experts")
    check_reading(mixture.config, run)
    gate = read_state(gate_file, _GATE_MADE_BY)
    _check_columns(gate, mixture.config.experts.num_experts, run)
    load_gate(mixture.gate, gate, gate_file)
    try:
        load_experts(mixture.experts, experts_file, mixture.config.whisper_model)
    except InputError as error:
        raise InputError(
            f"the experts of {run.path} do not fit the joint stage: {error}; give it the settings of theirs"
        ) from error


def check_reading(config: MixtureConfig, run: RunDir) -> None:
    """Raise an InputError if the gate was trained as another type, or on other layers of the same size."""
    if not run.gate_config_file.exists():
        return
    then = read_json_object(run.gate_config_file, _GATE_MADE_BY)
    now = {"gate": config.gate, "gate_layers": config.gate_config.read_layers}
    then["gate_layers"] = then.get("gate_layers") or then.get("embedding_layer", config.embedding_layer)
    for name, value in now.items():
        if then.get(name, value) != value:
            raise InputError(
                f"the gate of {run.path} was trained with {name} {then[name]}, the joint stage has {value}; give it"
                f" --model.{name} {then[name]}"
            )


def _check_columns(gate: dict[str, Tensor], num_experts: int, run: RunDir) -> None:
    for name, tensor in gate.items():
        if name.endswith("output.weight") and len(tensor) != num_experts:
            raise InputError(
                f"the gate of {run.path} was trained for {len(tensor)} experts, the soft labels have {num_experts};"
                " choose the soft labels that it was trained on with --data.soft_labels_file, or train gate and"
                " experts on these"
            )
