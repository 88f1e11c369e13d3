"""Add, drop, merge and join experts: rows of the stacked deltas and of the gate's last layer, for any run's tensors.

All other experts keep every bit of their deltas and their gate logits, so the gate chooses among them in the same
proportions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.settings.expert_changes import UNCHOSEN


class Mixture(NamedTuple):
    """Deltas, gate output layer and soft labels, with the same experts in the same order."""

    config: ExpertConfig
    deltas: dict[str, Tensor]
    """``<linear layer>.down_RD`` and ``.up_RD``."""
    gate_weight_EH: Tensor
    gate_bias_E: Tensor
    soft_labels: list[Tensor]
    """(N, E) each."""


Change = Callable[[Mixture], Mixture]


def drop(mixture: Mixture, expert: int) -> Mixture:
    """Remove one expert; its share of a soft label goes to the others in proportion.

    Raises:
        InputError: There is no such expert, or no other with deltas.
    """
    config = mixture.config
    _check(config, [expert])
    if config.num_adapted < 2 and expert < config.num_adapted:
        raise InputError(
            "experts.no-op", "the last expert cannot be dropped; the backbone alone needs no mixture", expert
        )
    kept = [other for other in range(config.num_experts) if other != expert]
    is_noop = expert >= config.num_adapted
    smaller = replace(config, num_experts=config.num_experts - 1, noop_expert=config.noop_expert and not is_noop)
    deltas = {name: _without(stacked_RD, config, expert) for name, stacked_RD in mixture.deltas.items()}
    labels = [_normalised(probs_NE[:, kept]) for probs_NE in mixture.soft_labels]
    return Mixture(smaller, deltas, mixture.gate_weight_EH[kept], mixture.gate_bias_E[kept], labels)


def add(mixture: Mixture, like: int | None = None, gate_bias: float = UNCHOSEN) -> Mixture:
    """Add an expert after the others (before the no-op one); no utterance runs it until the gate learns to.

    Args:
        like: Start from the deltas of this expert; None starts from deltas of zero.
        gate_bias: Its logit for every utterance.

    Raises:
        InputError: Expert ``like`` does not exist or is the no-op expert.
    """
    config, place = mixture.config, mixture.config.num_adapted
    if like is not None:
        _check(config, [like])
        if like >= place:
            raise InputError(
                "experts.no-op", f"expert {like} is the no-op expert, which has no deltas to start from", like
            )
    deltas = {}
    for name, stacked_RD in mixture.deltas.items():
        new_RD = stacked_RD[config.rows_of(like)] if like is not None else _untrained(name, stacked_RD, config.rank)
        end = config.shared_rows.start
        deltas[name] = torch.cat([stacked_RD[:end], new_RD, stacked_RD[end:]])

    def inserted(values: Tensor, new: Tensor, dim: int) -> Tensor:
        before, behind = values.split([place, values.shape[dim] - place], dim=dim)
        return torch.cat([before, new, behind], dim=dim)

    return Mixture(
        replace(config, num_experts=config.num_experts + 1),
        deltas,
        inserted(mixture.gate_weight_EH, torch.zeros_like(mixture.gate_weight_EH[:1]), 0),
        inserted(mixture.gate_bias_E, torch.full_like(mixture.gate_bias_E[:1], gate_bias), 0),
        [inserted(probs_NE, torch.zeros_like(probs_NE[:, :1]), 1) for probs_NE in mixture.soft_labels],
    )


def merge(mixture: Mixture, first: int, second: int, share: float = 0.5, gate_temperature: float = 1.0) -> Mixture:
    """Merge two experts into one, in the place of the first.

    Its deltas are the best approximation, at an expert's rank, to the weighted sum of theirs (Eckart and Young 1936).
    Its logit is the weighted mean of theirs plus the entropy of the weights: by Jensen's inequality the closest lower
    bound, among means, to the logit of their summed probability.

    Args:
        share: Weight of the first, 0 to 1 (exclusive).
        gate_temperature: Divisor of the gate's logits.

    Raises:
        InputError: The two are no different experts with deltas, or the share is out of its range.
    """
    config = mixture.config
    _check(config, [first, second])
    if first == second or max(first, second) >= config.num_adapted:
        raise InputError(
            "experts.number",
            f"merge takes two different experts with deltas, got {first} and {second}",
            (first, second),
        )
    if not 0 < share < 1:
        raise InputError("setting.range", f"the share of the first expert must be in (0, 1), got {share}", share)
    deltas = dict(mixture.deltas)
    for name in {key.rpartition(".")[0] for key in deltas}:
        down, up = f"{name}.down_RD", f"{name}.up_RD"
        deltas[down], deltas[up] = _merged(deltas[down], deltas[up], config, (first, second), share)
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    weight_EH, bias_E = mixture.gate_weight_EH.clone(), mixture.gate_bias_E.clone()
    weight_EH[first] = share * weight_EH[first] + (1 - share) * weight_EH[second]
    bias_E[first] = share * bias_E[first] + (1 - share) * bias_E[second] + gate_temperature * entropy
    labels = [probs_NE.clone() for probs_NE in mixture.soft_labels]
    for probs_NE in labels:
        probs_NE[:, first] += probs_NE[:, second]
        probs_NE[:, second] = 0
    return drop(Mixture(config, deltas, weight_EH, bias_E, labels), second)


def joined(parts: Sequence[dict[str, Tensor]], experts: Sequence[int], config: ExpertConfig) -> dict[str, Tensor]:
    """Deltas with each expert's rows from its own part, and all other rows from the first part."""
    deltas = {name: stacked_RD.clone() for name, stacked_RD in parts[0].items()}
    for part, expert in zip(parts, experts, strict=True):
        for name, stacked_RD in part.items():
            deltas[name][config.rows_of(expert)] = stacked_RD[config.rows_of(expert)]
    return deltas


def _check(config: ExpertConfig, experts: Sequence[int]) -> None:
    wrong = [expert for expert in experts if not 0 <= expert < config.num_experts]
    if wrong:
        raise InputError("experts.number", f"expert must be in 0..{config.num_experts - 1}, got {wrong[0]}", wrong[0])


def _without(stacked_RD: Tensor, config: ExpertConfig, expert: int) -> Tensor:
    rows = config.rows_of(expert)
    return torch.cat([stacked_RD[: rows.start], stacked_RD[rows.stop :]])


def _untrained(name: str, stacked_RD: Tensor, rank: int) -> Tensor:
    new_RD = stacked_RD.new_zeros(rank, stacked_RD.shape[1])
    return torch.nn.init.kaiming_uniform_(new_RD, a=math.sqrt(5)) if name.endswith("down_RD") else new_RD


def _normalised(probs_NE: Tensor) -> Tensor:
    """Rows that sum to 1; a row of zeros becomes uniform."""
    sums_N1 = probs_NE.sum(dim=1, keepdim=True)
    return torch.where(sums_N1 > 1e-6, probs_NE / sums_N1.clamp_min(1e-6), 1 / probs_NE.shape[1])


def _merged(
    down_RD: Tensor, up_RD: Tensor, config: ExpertConfig, experts: tuple[int, int], share: float
) -> tuple[Tensor, Tensor]:
    """Stacked deltas; the first expert is the best approximation, at its rank, to the weighted sum of both."""
    first, second = (config.rows_of(expert) for expert in experts)
    both_DR = torch.cat([down_RD[first], down_RD[second]]).double().T
    weighted_DR = torch.cat([share * up_RD[first], (1 - share) * up_RD[second]]).double().T
    (q_in_DR, r_in), (q_out_DR, r_out) = torch.linalg.qr(both_DR), torch.linalg.qr(weighted_DR)
    left, sizes, right = torch.linalg.svd(r_in @ r_out.T)
    roots = sizes[: config.rank].sqrt()
    down_RD, up_RD = down_RD.clone(), up_RD.clone()
    down_RD[first] = (q_in_DR @ left[:, : config.rank] * roots).T.to(down_RD)
    up_RD[first] = (q_out_DR @ right.T[:, : config.rank] * roots).T.to(up_RD)
    return down_RD, up_RD
