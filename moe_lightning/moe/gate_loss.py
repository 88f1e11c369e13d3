"""Loss terms on the gate itself; each over the global batch, float32, a scalar.

Under DDP the ranks' results have the global batch's value as mean, see `global_mean`.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.gating.model import normalised_entropy
from moe_lightning.moe.balance import balance_loss
from moe_lightning.training.global_batch import global_mean


@dataclass(frozen=True)
class GateWeights:
    """Weights of the gate's terms beside the cross-entropy.

    Raises:
        InputError: One is negative.
    """

    balance: float = 0.01
    z: float = 0.0
    entropy: float = 0.0
    """For a bonus: it is subtracted."""
    pull: float = 0.0
    """At the start of the training."""
    noise: float = 0.0
    """Standard deviation of the noise on the logits in training."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:
                option = "router_noise" if name == "noise" else f"{name}_weight"
                raise InputError(f"{option} must be at least 0, got {value}")


def gate_terms(logits_BE: Tensor, probs_BE: Tensor, soft_labels_BE: Tensor, weights: GateWeights) -> dict[str, Tensor]:
    """The terms with a weight, by name, and in any case the balance.

    Args:
        logits_BE: The gate's own, without noise or temperature, for all utterances on this rank in an
            optimizer step.
        probs_BE: Expert probabilities before the routing keeps some.
    """
    terms = {"balance": balance_loss(logits_BE)}
    if weights.z:
        terms["z"] = z_loss(logits_BE)
    if weights.entropy:
        terms["entropy"] = gate_entropy(probs_BE)
    if weights.pull:
        terms["pull"] = pull(logits_BE, soft_labels_BE)
    return terms


def weighted_sum(terms: dict[str, Tensor], weights: GateWeights, pull_left: float) -> Tensor:
    """Sum of the weighted terms for the loss; ``pull_left`` is the remaining share of the pull."""
    factors = {**asdict(weights), "entropy": -weights.entropy, "pull": weights.pull * pull_left}
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


def z_loss(logits_BE: Tensor) -> Tensor:
    """Mean of ``(log sum_e exp(logit_e)) ^ 2``: keeps logits small, so that the softmax keeps a gradient.

    ST-MoE, equation 5 (Zoph et al. 2022, arXiv:2202.08906), with a weight of 0.001 there.
    """
    return global_mean(logits_BE.float().logsumexp(dim=1).square())


def gate_entropy(probs_BE: Tensor) -> Tensor:
    """Mean normalised entropy of the expert probabilities, 0 to 1: as a bonus it delays a decided gate."""
    return global_mean(normalised_entropy(probs_BE))


def pull(logits_BE: Tensor, soft_labels_BE: Tensor) -> Tensor:
    """Mean KL divergence of the gate from the soft labels, in nats: the loss of the gate's own stage.

    As there, it takes the gate's plain softmax, before temperature, noise and floor.
    """
    soft_labels_BE = soft_labels_BE.float()
    cross_entropy_B = -(soft_labels_BE * logits_BE.float().log_softmax(dim=1)).sum(dim=1)
    return global_mean(cross_entropy_B - torch.special.entr(soft_labels_BE).sum(dim=1))


def noisy(logits_BE: Tensor, noise: float) -> Tensor:
    """Logits with normal noise of this standard deviation, so that a close second expert is tried now and then.

    Noisy top-k gating, section 2.1 and equation 4 of Shazeer et al. 2017 (arXiv:1701.06538), with a fixed
    deviation; theirs is learned by a network.
    """
    return logits_BE + noise * torch.randn_like(logits_BE) if noise else logits_BE
