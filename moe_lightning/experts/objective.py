"""Assignment of utterances to experts by soft label, before a gate exists."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.models.expert_config import ExpertConfig

Assignment = Literal["hard", "top_k", "soft"]
"""``hard``: the likeliest expert alone; ``top_k``: the K likeliest, renormalised; ``soft``: all."""


def assigned_gates(soft_labels_BE: Tensor, assignment: Assignment, top_k: int) -> Tensor:
    """``gate_BE``: soft labels cut to the assigned experts; rows sum to 1.

    Raises:
        InputError: The assignment is unknown, or ``top_k`` is not positive.
    """
    if assignment not in get_args(Assignment):
        raise InputError(
            "setting.choice",
            f"assignment must be one of {', '.join(get_args(Assignment))}, got {assignment!r}",
            f"assignment={assignment}",
        )
    if top_k < 1:
        raise InputError("setting.range", f"top_k must be at least 1, got {top_k}", f"top_k={top_k}")
    num_experts = soft_labels_BE.shape[1]
    num_kept = {"hard": 1, "top_k": min(top_k, num_experts), "soft": num_experts}[assignment]
    probs_BK, experts_BK = soft_labels_BE.topk(num_kept, dim=1)
    weights_BK = probs_BK / probs_BK.sum(dim=1, keepdim=True)
    return soft_labels_BE.new_zeros(soft_labels_BE.shape).scatter(1, experts_BK, weights_BK)


Objective = Literal["merged", "separate"]


class Lessons(NamedTuple):
    """Forward passes of a batch: the K of its first utterance, then those of the second."""

    gate_NE: Tensor
    experts_N: Tensor
    """Expert credited with a pass: the one that it runs, or the likeliest of those merged."""
    weights_N: Tensor
    """Weights of the passes in the loss; an utterance's sum to 1, unless one expert is trained alone."""


def check_objective(objective: Objective, assignment: Assignment, expert: int | None, config: ExpertConfig) -> None:
    """Raise an InputError if one expert cannot be trained alone, or the objective is unknown."""
    if objective not in get_args(Objective):
        raise InputError(
            "setting.choice",
            f"objective must be one of {', '.join(get_args(Objective))}, got {objective!r}",
            f"objective={objective}",
        )
    if expert is not None and expert >= config.num_adapted:
        raise InputError(
            "experts.no-op",
            f"data.expert {expert} is the no-op expert, which has nothing to train; it needs no job",
            expert,
        )
    if expert is None or are_independent(objective, assignment, config.shared_rank):
        return
    if config.shared_rank:
        raise InputError(
            "setting.conflict",
            f"data.expert {expert} trains one expert alone, but shared_rank {config.shared_rank} makes a shared expert,"
            " which learns from all utterances: set model.shared_rank 0, or train all experts in one job",
            f"shared_rank={config.shared_rank}",
        )
    raise InputError(
        "setting.conflict",
        f"data.expert {expert} trains one expert alone, but assignment {assignment} merges it with others: set"
        " model.assignment hard or model.objective separate",
        f"assignment={assignment}",
    )


def are_independent(objective: Objective, assignment: Assignment, shared_rank: int) -> bool:
    """True if joint training gives each expert the same weights as training alone."""
    return shared_rank == 0 and (assignment == "hard" or objective == "separate")


def lessons(
    soft_labels_BE: Tensor, assignment: Assignment, top_k: int, objective: Objective, expert: int | None
) -> Lessons:
    """The forward passes in which a batch trains its experts, or one of them alone."""
    gate_BE = assigned_gates(soft_labels_BE, assignment, top_k)
    num_experts = gate_BE.shape[1]
    if expert is not None:
        one_hot_BE = torch.zeros_like(gate_BE)
        one_hot_BE[:, expert] = 1
        return Lessons(one_hot_BE, torch.full_like(gate_BE[:, 0], expert, dtype=torch.int64), gate_BE[:, expert])
    if objective == "merged":
        return Lessons(gate_BE, gate_BE.argmax(dim=1), torch.ones_like(gate_BE[:, 0]))
    num_kept = int((gate_BE > 0).sum(dim=1).max())
    weights_BK, experts_BK = gate_BE.topk(num_kept, dim=1)
    experts_N = experts_BK.flatten()
    return Lessons(torch.eye(num_experts).to(gate_BE)[experts_N], experts_N, weights_BK.flatten())
