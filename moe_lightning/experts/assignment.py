"""Assignment of utterances to experts by soft label, before a gate exists."""

from typing import Literal, get_args

from torch import Tensor

from moe_lightning.errors import InputError

Assignment = Literal["hard", "top_k", "soft"]
"""``hard``: the likeliest expert alone; ``top_k``: the K likeliest, renormalised; ``soft``: all."""


def assigned_gates(soft_labels_BE: Tensor, assignment: Assignment, top_k: int) -> Tensor:
    """``gate_BE``: soft labels cut to the assigned experts; rows sum to 1.

    Raises:
        InputError: The assignment is unknown, or ``top_k`` is not positive.
    """
    if assignment not in get_args(Assignment):
        raise InputError(f"assignment must be one of {', '.join(get_args(Assignment))}, got {assignment!r}")
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}")
    num_experts = soft_labels_BE.shape[1]
    num_kept = {"hard": 1, "top_k": min(top_k, num_experts), "soft": num_experts}[assignment]
    probs_BK, experts_BK = soft_labels_BE.topk(num_kept, dim=1)
    weights_BK = probs_BK / probs_BK.sum(dim=1, keepdim=True)
    return soft_labels_BE.new_zeros(soft_labels_BE.shape).scatter(1, experts_BK, weights_BK)
