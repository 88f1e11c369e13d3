"""Settings and weights of the earlier stages, read from their files: the joint stage asks for none of them again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe_lightning.errors import InputError
from moe_lightning.models.checkpoint import load_experts, read_expert_config, read_gate_config, read_window
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.gate import GateConfig, GateInput, load_gate
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.mixture_config import MixtureConfig
from moe_lightning.models.weights import read_state
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import require_trained


@dataclass(frozen=True)
class EarlierStages:
    """Settings of the trained gate and of the pre-trained experts."""

    whisper_model: str
    experts: ExpertConfig
    gate: GateConfig
    window: float
    """Minimum input of the experts in seconds; 0 for real lengths."""

    @classmethod
    def read(cls, run: RunDir, whisper_model: str, num_experts: int) -> "EarlierStages":
        """Settings in the files of a run.

        Args:
            num_experts: Columns of the soft labels.

        Raises:
            InputError: A stage has not finished, or was trained on other soft labels.
        """
        require_trained(run.gate_file, "gating")
        experts_file = require_trained(run.pretrained_experts_file, "experts")
        gate, experts = read_gate_config(run.gate_config_file), read_expert_config(experts_file)
        for name, found in (("gate was", gate.num_experts), ("experts were", experts.num_experts)):
            if found != num_experts:
                raise InputError(
                    "labels.other",
                    f"the {name} trained in {run.path} for {found} experts, the soft labels have {num_experts};"
                    " choose the soft labels of that training with --data.soft_labels_file, or train both on these",
                    found,
                )
        return cls(whisper_model, experts, gate, read_window(experts_file))

    def mixture_config(self, gate_input: GateInput | None = None, **routing: Any) -> MixtureConfig:
        """Config of a mixture of this gate and these experts.

        Args:
            gate_input: Replaces the input of the gate's own training.
            routing: Fields of `MixtureConfig`.
        """
        gate = self.gate if gate_input is None else replace(self.gate, source=gate_input)
        return MixtureConfig(
            whisper_model=self.whisper_model,
            embedding_dim=gate.embedding_dim,
            experts=self.experts,
            hidden_dim=gate.hidden_dim,
            gate=gate.kind,
            gate_input=gate.source,
            gate_layers=gate.layers,
            pooling=gate.pooling,
            embedding_window=gate.window,
            embedding_layer=gate.embedding_layer,
            window=self.window,
            **routing,
        )


def load_earlier_stages(mixture: MixtureASR, run_dir: Path) -> None:
    """Load the trained gate and the pre-trained experts of a run into a mixture.

    Raises:
        InputError: A stage has not finished, or its weights are of another size.
    """
    run = RunDir(run_dir)
    gate_file = require_trained(run.gate_file, "gating")
    experts_file = require_trained(run.pretrained_experts_file, "experts")
    load_gate(mixture.gate, read_state(gate_file, "python -m moe_lightning.gating fit"), gate_file)
    try:
        load_experts(mixture.experts, experts_file, mixture.config.whisper_model)
    except InputError as error:
        raise InputError(
            "experts.unfit", f"the experts of {run.path} do not fit the joint stage: {error}", run.path
        ) from error
