"""Settings of the joint stage that come in groups, as in YAML: ``model.gate_training.balance_weight``."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from moe_lightning.errors import InputError

DECIDED: dict[str, tuple[str, ...]] = {
    "experts": (
        *("window", "rank", "alpha", "dropout", "shared_rank", "target_modules"),
        *("adapt_from_layer", "rslora", "noop_expert"),
    ),
    "gating": ("hidden_dim", "gate", "gate_layers"),
    "embedding": ("whisper_model",),
}
"""Settings that the joint stage reads from what these stages wrote."""
RefineBy = Literal["utterance", "speaker"]


@dataclass(frozen=True)
class GateTraining:
    """Terms of the gate beside the cross-entropy, and its learning rate.

    Args:
        balance_weight: Weight of the load-balancing loss.
        z_weight: Weight of the gate's squared log-sum-exp; 0.001 is usual.
        entropy_weight: Weight of the bonus for the gate's normalised entropy.
        pull_weight: Weight, at the start, of the gate's divergence from the soft labels.
        pull_until: Share of the training over which that weight falls linearly to zero.
        router_noise: Standard deviation of the normal noise on the gate's logits, in training only.
        lr_factor: The gate's learning rate over the experts'; at rates suited to LoRA, a trained gate would forget
            the clusters.

    Raises:
        InputError: A value is out of its range.
    """

    balance_weight: float = 0.01
    z_weight: float = 0.0
    entropy_weight: float = 0.0
    pull_weight: float = 0.0
    pull_until: float = 1.0
    router_noise: float = 0.0
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        names = ("balance_weight", "z_weight", "entropy_weight", "pull_weight", "router_noise", "lr_factor")
        for name in names:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    "setting.range",
                    f"{name} must be at least 0, got {getattr(self, name)}; it must be finite too",
                    f"{name}={getattr(self, name)}",
                )
        if not 0 < self.pull_until <= 1:
            raise InputError(
                "setting.range",
                f"pull_until must be in (0, 1], a share of the training, got {self.pull_until}",
                f"pull_until={self.pull_until}",
            )


@dataclass(frozen=True)
class RefinementSettings:
    """Rounds of refinement: utterances go to the experts with the lowest loss on them, and the gate is refitted.

    Args:
        num_rounds: Epochs, evenly spread from the first on, that begin with a round.
        temperature: Advantage in nats per token that makes an expert count e times more.
        balance: 0 leaves the experts their own shares of the corpus, 1 makes the shares equal.
        by: Assigned unit: an ``utterance``, or all utterances by a ``speaker``, judged from some.
        per_speaker: Most utterances by one speaker to judge from.
        gate_epochs: Epochs of the gate's refit.
        gate_learning_rate: Its learning rate.

    Raises:
        InputError: A value is out of its range.
    """

    num_rounds: int = 0
    temperature: float = 0.1
    balance: float = 1.0
    by: RefineBy = "utterance"
    per_speaker: int = 8
    gate_epochs: int = 10
    gate_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.num_rounds < 0 or self.gate_epochs < 0:
            raise InputError(
                "setting.range",
                "refinement.num_rounds and refinement.gate_epochs must be at least 0, got"
                f" {self.num_rounds} and {self.gate_epochs}",
                "refinement.num_rounds, refinement.gate_epochs",
            )
        if not 0 < self.gate_learning_rate < math.inf:
            raise InputError(
                "setting.range",
                f"refinement.gate_learning_rate must be over 0, got {self.gate_learning_rate}; it must be finite too",
                f"refinement.gate_learning_rate={self.gate_learning_rate}",
            )
        if self.by not in get_args(RefineBy):
            raise InputError(
                "setting.choice",
                f"refinement.by must be one of {', '.join(get_args(RefineBy))}, got {self.by!r}",
                f"refinement.by={self.by}",
            )
        if self.per_speaker < 1:
            raise InputError(
                "setting.range",
                f"refinement.per_speaker must be at least 1, got {self.per_speaker}",
                f"refinement.per_speaker={self.per_speaker}",
            )
        if not self.temperature > 0 or not 0 <= self.balance <= 1:
            raise InputError(
                "setting.range",
                "refinement.temperature must be over 0 nats a token and refinement.balance in 0 to 1, got"
                f" {self.temperature} and {self.balance}",
                "refinement.temperature, refinement.balance",
            )


def decided_before(words: str) -> str:
    """For a refused command line of the joint stage: the stage that decided a setting; "" if none did."""
    asked = {word[len("--model.") :].partition("=")[0] for word in words.split() if word.startswith("--model.")}
    found = [(name, stage) for stage, names in DECIDED.items() for name in names if name in asked]
    return "; ".join(
        f"{name} is decided in the stage {stage}, and the joint stage reads it there" for name, stage in found
    )
