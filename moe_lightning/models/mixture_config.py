"""Configuration of a mixture: all that is needed to build it before its weights are loaded."""

from dataclasses import dataclass
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.window import REAL
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.gate import GateConfig, GateInput, GateKind
from moe_lightning.models.routing import RoutingMode, RoutingRule, check_routing
from moe_lightning.settings.embedding import Pooling
from moe_lightning.system.json_files import from_json, read_json_object


@dataclass(frozen=True)
class MixtureConfig:
    """All settings needed to build a mixture before its weights are loaded.

    Raises:
        InputError: A number is out of its range.
    """

    whisper_model: str
    embedding_dim: int
    experts: ExpertConfig
    hidden_dim: int = 512
    gate: GateKind = "mlp"
    gate_input: GateInput = "cached"
    """In training; for new audio every gate reads the live encoder."""
    gate_layers: str | None = None
    """Encoder layers for a live gate; None: those of the embeddings."""
    routing: RoutingMode = "top_k"
    top_k: int = 2
    gate_temperature: float = 1.0
    """Divides the gate's logits."""
    min_expert_prob: float = 0.0
    """Minimum probability of each expert."""
    pooling: Pooling = "mean"
    embedding_window: float = REAL
    """Window of the gate's embeddings in seconds; ``window`` is that of the recogniser itself."""
    embedding_layer: str = "last"
    """Encoder layers of the embeddings, joined: ``last``, ``6``, ``6,12,last``."""
    window: float = REAL
    """Minimum input of the recogniser in seconds; 0 for real lengths."""

    def __post_init__(self) -> None:
        num_experts = self.experts.num_experts
        check_routing(self.routing, min(self.top_k, 1) if num_experts == 1 else self.top_k, num_experts)
        if not 0 <= self.min_expert_prob < 1 / num_experts:
            raise InputError(
                "setting.range",
                f"min_expert_prob must be at least 0 and under 1 / {num_experts}, one over the number of experts,"
                f" got {self.min_expert_prob}",
                f"min_expert_prob={self.min_expert_prob}",
            )

    @property
    def rule(self) -> RoutingRule:
        """The routing of the utterances."""
        top_k = min(self.top_k, self.experts.num_experts)
        return RoutingRule(self.routing, top_k, self.gate_temperature, self.min_expert_prob)

    @property
    def gate_config(self) -> GateConfig:
        """Type and input of the gate."""
        return GateConfig(
            num_experts=self.experts.num_experts,
            embedding_dim=self.embedding_dim,
            pooling=self.pooling,
            window=self.embedding_window,
            embedding_layer=self.embedding_layer,
            kind=self.gate,
            source=self.gate_input,
            layers=self.gate_layers,
            hidden_dim=self.hidden_dim,
        )


def read_config(file: Path) -> MixtureConfig:
    """The config of a finished mixture, from its file.

    Raises:
        MissingInputError: The run has no finished joint stage.
    """
    settings = read_json_object(file, "moe-lightning pipeline", {"experts": dict})
    return from_json(MixtureConfig, {**settings, "experts": ExpertConfig.of(settings["experts"], file)}, file)
