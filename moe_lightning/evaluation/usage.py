"""Use of the experts: shares, entropy, and the expert of each true group."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.soft_labels import HardLabels
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.reports.results import Usage
from moe_lightning.run.folder import RunDir
from moe_lightning.system.json_files import read_json_object

DEAD_BELOW = 0.005
"""An expert with a smaller share of the gate's weight is called dead; the same as in the callback ExpertUsage."""


def expert_usage(gates: Mapping[str, Sequence[float]], columns: Mapping[str, Mapping[str, str]]) -> Usage:
    """Usage of the experts over a split.

    Args:
        gates: Weight per expert, by utterance id; rows sum to 1.
        columns: Value by utterance id, by field name.
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
    return Usage(
        usage=[round(count / len(gates), 6) for count in counts],
        weight=[round(share, 6) for share in weight],
        entropy=round(sum(map(normalised_entropy, gates.values())) / len(gates), 6),
        dead=[expert for expert, share in enumerate(weight) if share < DEAD_BELOW],
        by_field=by_field,
    )


def normalised_entropy(gate: Sequence[float]) -> float:
    """Entropy of a distribution relative to the uniform one: 0 for a single expert, 1 for equal shares.

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


def true_experts(run: RunDir, utterances: Sequence[Utterance]) -> dict[str, int]:
    """Expert by utterance id, from the run's clustering field.

    Raises:
        InputError: The run was not clustered by a field, or an utterance has a value that is not in training.
    """
    clusterer = read_json_object(run.clusterer_file, "moe-lightning cluster", {"settings": dict})
    field = clusterer["settings"].get("label_field")
    if not field:
        raise InputError(
            "setting.conflict",
            f"--systems label needs a run clustered by a field, and {run.path} is not; make one with"
            " --clustering-algorithm label --label-field FIELD",
            "--systems label",
        )
    labels = HardLabels.load(run.labels_file("label"))
    expert_of = dict(zip(labels.ids, labels.labels_N.tolist(), strict=True))
    votes: dict[str, Counter[int]] = {}
    for one in read_manifest(run.manifest_file("train")):
        if field in one.fields and one.id in expert_of:
            votes.setdefault(str(one.fields[field]), Counter())[expert_of[one.id]] += 1
    experts = {value: counts.most_common(1)[0][0] for value, counts in votes.items()}
    unknown = [one for one in utterances if str(one.fields.get(field)) not in experts]
    if unknown:
        raise InputError(
            "corpus.no-field",
            f"{len(unknown)} utterances have no {field} that training had, the first is {unknown[0].id!r}"
            f" ({unknown[0].fields.get(field)!r}); --systems label needs it of every one",
            unknown[0].id,
        )
    return {one.id: experts[str(one.fields[field])] for one in utterances}
