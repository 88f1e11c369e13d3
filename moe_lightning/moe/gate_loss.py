"""What the joint loss may say of the gate itself; each over the global batch, float32, a scalar.

Under DDP the mean of the ranks' results is the value of the global batch, see `global_mean`.
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
    """What each term counts beside the cross-entropy.

    Raises:
        InputError: One is negative.
    """

    balance: float = 0.01
    z: float = 0.0
    entropy: float = 0.0
    """Of a bonus: it is subtracted."""
    pull: float = 0.0
    """At the start of the training."""
    noise: float = 0.0
    """Deviation of the noise on the logits in training."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:
                option = "router_noise" if name == "noise" else f"{name}_weight"
                raise InputError(f"{option} must be at least 0, got {value}")


def gate_terms(logits_BE: Tensor, probs_BE: Tensor, soft_labels_BE: Tensor, weights: GateWeights) -> dict[str, Tensor]:
    """The terms that have a weight, by name, and in any case the balance.

    Args:
        logits_BE: The gate's own, without noise or temperature, for all utterances that this rank contributes
            to an optimizer step.
        probs_BE: The experts' probabilities that the routing starts from.
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
    """What the terms add to the loss; of the pull, a part is left."""
    factors = {**asdict(weights), "entropy": -weights.entropy, "pull": weights.pull * pull_left}
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


def z_loss(logits_BE: Tensor) -> Tensor:
    """Mean of ``(log sum_e exp(logit_e)) ^ 2``: keeps logits small, so that the softmax keeps a gradient.

    ST-MoE, equation 5 (Zoph et al. 2022, arXiv:2202.08906), which weighs it by 0.001.
    """
    return global_mean(logits_BE.float().logsumexp(dim=1).square())


def gate_entropy(probs_BE: Tensor) -> Tensor:
    """Mean normalised entropy of the experts' probabilities, 0 to 1: a bonus for it delays a decided gate."""
    return global_mean(normalised_entropy(probs_BE))


def pull(logits_BE: Tensor, soft_labels_BE: Tensor) -> Tensor:
    """Mean KL divergence of the gate from the soft labels, in nats: the loss of the gate's own stage.

    Of the gate's own softmax, before temperature, noise and floor, as it was trained there.
    """
    soft_labels_BE = soft_labels_BE.float()
    cross_entropy_B = -(soft_labels_BE * logits_BE.float().log_softmax(dim=1)).sum(dim=1)
    return global_mean(cross_entropy_B - torch.special.entr(soft_labels_BE).sum(dim=1))


def noisy(logits_BE: Tensor, noise: float) -> Tensor:
    """Logits with normal noise of this deviation: an expert that is a close second is tried now and then.

    Noisy top-k gating, section 2.1 and equation 4 of Shazeer et al. 2017 (arXiv:1701.06538), with a deviation
    that is set, where theirs is learned by a network of its own.
    """
    return logits_BE + noise * torch.randn_like(logits_BE) if noise else logits_BE
