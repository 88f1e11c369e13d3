"""Which experts the utterances went to, and whether that follows what is known of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEAD_BELOW = 0.005
"""Share of the gate's weight under which an expert is called dead; as the callback ExpertUsage has it."""


def expert_usage(gates: Mapping[str, Sequence[float]], columns: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Usage of the experts over a split.

    Args:
        gates: Weight of each expert by utterance id; rows sum to 1.
        columns: Values of each utterance by its id, by the name of the field.

    Returns:
        ``usage`` (share of utterances whose likeliest expert it is), ``weight`` (mean share of the gate),
        ``entropy`` (mean over the utterances, of 1 when all experts share alike), ``dead`` experts, and
        ``by_field``: for each value of a field, how many utterances went to each expert.
    """
    num_experts = len(next(iter(gates.values())))
    likeliest = {id_: max(range(num_experts), key=gate.__getitem__) for id_, gate in gates.items()}
    counts = _counts(likeliest.values(), num_experts)
    weight = [sum(gate[expert] for gate in gates.values()) / len(gates) for expert in range(num_experts)]
    by_field = {}
    for field, values in columns.items():
        names = sorted(set(values.values()), key=lambda name: (len(name), name) if name.isdigit() else (0, name))
        by_field[field] = {
            name: _counts((likeliest[id_] for id_, value in values.items() if value == name), num_experts)
            for name in names
        }
    return {
        "usage": [round(count / len(gates), 6) for count in counts],
        "weight": [round(share, 6) for share in weight],
        "entropy": round(sum(map(normalised_entropy, gates.values())) / len(gates), 6),
        "dead": [expert for expert, share in enumerate(weight) if share < DEAD_BELOW],
        "by_field": by_field,
    }


def normalised_entropy(gate: Sequence[float]) -> float:
    """Entropy of a distribution over that of the uniform one: 0 for one expert alone, 1 for all alike.

    >>> normalised_entropy([0.25] * 4)
    1.0
    """
    if len(gate) < 2:
        return 0.0
    return -sum(share * math.log(share) for share in gate if share > 0) / math.log(len(gate))


def _counts(experts: Any, num_experts: int) -> list[int]:
    counts = [0] * num_experts
    for expert in experts:
        counts[expert] += 1
    return counts
