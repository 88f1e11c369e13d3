"""Partitions without a clustering algorithm: labels from a manifest field, and random labels."""

import warnings
from collections.abc import Sequence

import numpy as np

from moe_lightning.clustering.partition import Partition
from moe_lightning.errors import InputError


def random_partition(points_NR: np.ndarray, num_experts: int, seed: int) -> Partition:
    """Random, equally large groups: the control in every comparison."""
    labels_N = np.random.default_rng(seed).permutation(np.arange(len(points_NR)) % num_experts)
    return Partition("random", labels_N.astype(np.int64), np.eye(num_experts)[labels_N])


def label_partition(points_NR: np.ndarray, values: Sequence[str | None], field: str) -> Partition:
    """One expert per value of a field; utterances without a value take it from their neighbours.

    Known labels are kept. The others come from label spreading over ten nearest neighbours (Zhou et al., "Learning
    with Local and Global Consistency", 2004), as a distribution. Utterances that no label reaches are noise.

    Args:
        values: Per training point; None if the manifest has none.

    Raises:
        InputError: No training utterance has the field.
    """
    names = sorted({value for value in values if value is not None})
    if not names:
        raise InputError(
            "corpus.no-field", f"no training utterance has the field {field!r}; name another with --label-field", field
        )
    known_N = np.array([-1 if value is None else names.index(value) for value in values])
    memberships_NE = _spread(points_NR, known_N, len(names))
    labels_N = np.where(memberships_NE.any(axis=1), memberships_NE.argmax(axis=1), -1)
    notes = (f"{field}: {len(names)} experts ({', '.join(names)}){_in_words(known_N, labels_N)}",)
    return Partition("label", labels_N, memberships_NE, notes)


def _in_words(known_N: np.ndarray, labels_N: np.ndarray) -> str:
    """Summary of the utterances without a value."""
    num_spread, num_lost = int(((known_N < 0) & (labels_N >= 0)).sum()), int((labels_N < 0).sum())
    spread = f"; {num_spread} utterances without it were labelled by their neighbours" if num_spread else ""
    return spread + (f"; {num_lost} have no labelled neighbour and are noise" if num_lost else "")


def _spread(points_NR: np.ndarray, known_N: np.ndarray, num_experts: int) -> np.ndarray:
    is_known_N = known_N >= 0
    memberships_NE = np.eye(num_experts + 1)[known_N][:, :-1]
    if is_known_N.all():
        return memberships_NE
    from sklearn.semi_supervised import LabelSpreading

    model = LabelSpreading(kernel="knn", n_neighbors=min(10, len(points_NR) - 1), alpha=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # division by zero for a point that no label reaches; it becomes noise below
        spread_NE = np.nan_to_num(model.fit(points_NR, known_N).label_distributions_)
    return np.where(is_known_N[:, None], memberships_NE, spread_NE)
