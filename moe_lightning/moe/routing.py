"""From the gate's logits to each utterance's weights of the experts."""

from typing import Literal, NamedTuple, get_args

from torch import Tensor

from moe_lightning.errors import InputError

RoutingMode = Literal["merge", "top_k", "hard", "posterior", "confidence", "loss"]
"""In one pass, with the experts' parameters merged for each utterance - ``merge``: all experts by the gate's softmax;
``top_k``: the K likeliest, renormalised; ``hard``: the likeliest. With the K likeliest side by side, each a separate
recogniser - ``posterior``, ``confidence``, ``loss``: see `mixing`.
"""

ONE_PASS: tuple[RoutingMode, ...] = ("merge", "top_k", "hard")


class Routing(NamedTuple):
    """The experts of each utterance, best first."""

    weights_BK: Tensor
    """Share of each kept expert; rows sum to 1."""
    experts_BK: Tensor
    """Their indices, int64."""


def gate_probs(logits_BE: Tensor, temperature: float = 1.0, min_prob: float = 0.0) -> Tensor:
    """Probabilities of all experts, float32: the softmax at a temperature, raised to a floor.

    Args:
        temperature: Divides the logits; lower is harder.
        min_prob: Minimum probability of each expert, under 1 / E; the rest shrinks in proportion.
    """
    probs_BE = (logits_BE.float() / temperature).softmax(dim=1)
    return min_prob + (1.0 - min_prob * logits_BE.shape[1]) * probs_BE if min_prob else probs_BE


def route(logits_BE: Tensor, mode: RoutingMode, top_k: int, temperature: float = 1.0, min_prob: float = 0.0) -> Routing:
    """Choose experts by the gate's logits; ``temperature`` and ``min_prob`` as in `gate_probs`.

    Raises:
        InputError: The mode is unknown, or ``top_k`` is not in 1..E.
    """
    num_experts = logits_BE.shape[1]
    check_routing(mode, top_k, num_experts)
    probs_BE = gate_probs(logits_BE, temperature, min_prob)
    num_kept = {"merge": num_experts, "hard": 1}.get(mode, top_k)
    weights_BK, experts_BK = probs_BE.topk(num_kept, dim=1)
    if mode == "hard":  # forward 1, backward the probability's gradient: the gate learns
        return Routing(1.0 + weights_BK - weights_BK.detach(), experts_BK)
    return Routing(weights_BK / weights_BK.sum(dim=1, keepdim=True), experts_BK)


def check_routing(mode: str, top_k: int, num_experts: int) -> None:
    """Raise an InputError for an unknown mode, or for ``top_k`` outside 1..E."""
    if mode not in get_args(RoutingMode):
        raise InputError(f"routing must be one of {', '.join(get_args(RoutingMode))}, got {mode!r}")
    if not 1 <= top_k <= num_experts:
        raise InputError(f"top_k must be in 1..{num_experts}, the number of experts, got {top_k}")


def dense_gates(routing: Routing, num_experts: int) -> Tensor:
    """``gate_BE``: the weights at their experts' places, zero elsewhere."""
    gate_BE = routing.weights_BK.new_zeros(len(routing.weights_BK), num_experts)
    return gate_BE.scatter(1, routing.experts_BK, routing.weights_BK)
