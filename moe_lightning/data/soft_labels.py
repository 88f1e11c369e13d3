"""Soft and hard labels of the utterances: the clustering writes them, all later stages read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe_lightning.errors import InputError
from moe_lightning.system.json_files import read_json, write_json_list

_MADE_BY = "moe-lightning cluster"


@dataclass(frozen=True)
class SoftLabels:
    """A distribution over the experts for each utterance.

    Raises:
        InputError: Ids repeat, the shapes differ, or a row is not a distribution.
    """

    ids: tuple[str, ...]
    probs_NE: np.ndarray
    """Float32, not negative; rows sum to 1."""

    def __post_init__(self) -> None:
        _check_ids(self.ids)
        if self.probs_NE.ndim != 2 or len(self.probs_NE) != len(self.ids) or self.probs_NE.shape[1] < 1:
            raise InputError(
                "labels.shape",
                f"soft labels must have the shape ({len(self.ids)}, num_experts), got {self.probs_NE.shape}",
                self.probs_NE.shape,
            )
        sums_N = self.probs_NE.sum(axis=1)
        is_wrong_N = ~(np.abs(sums_N - 1) < 1e-3) | (self.probs_NE < 0).any(axis=1)  # also true for NaN
        if is_wrong_N.any():
            row = int(is_wrong_N.argmax())
            raise InputError(
                "labels.probabilities",
                f"the soft label of {self.ids[row]!r} must be non-negative and sum to 1, its sum is {sums_N[row]:.4f};"
                f" run `{_MADE_BY}` again",
                self.ids[row],
            )

    @property
    def num_experts(self) -> int:
        return int(self.probs_NE.shape[1])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids)}

    def __contains__(self, id_: str) -> bool:
        return id_ in self._rows

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """Rows for the given utterances, in their order.

        Raises:
            InputError: An utterance has no soft label.
        """
        missing = [id_ for id_ in ids if id_ not in self._rows]
        if missing:
            raise InputError(
                "labels.missing",
                f"{len(missing)} of {len(ids)} utterances have no soft label, the first is {missing[0]!r};"
                f" run `{_MADE_BY}` on the embeddings of this corpus",
                missing[0],
            )
        return self.probs_NE[[self._rows[id_] for id_ in ids]]

    def save(self, path: Path) -> None:
        """Write ``[{"id": ..., "probs": [...]}, ...]``."""
        rows = zip(self.ids, self.probs_NE.astype(float).round(7).tolist(), strict=True)
        write_json_list(path, ({"id": id_, "probs": probs} for id_, probs in rows))

    @classmethod
    def load(cls, path: Path) -> "SoftLabels":
        rows = _read_rows(path, "probs")
        if len({len(row["probs"]) if isinstance(row["probs"], list) else -1 for row in rows}) != 1:
            raise InputError(
                "labels.shape",
                f"{path}: every soft label must have one probability an expert, their numbers differ",
                path,
            )
        try:
            probs_NE = np.array([row["probs"] for row in rows], dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "labels.probabilities", f"{path}: every probability must be a number ({error})", path
            ) from error
        return cls(tuple(row["id"] for row in rows), probs_NE)


@dataclass(frozen=True)
class HardLabels:
    """The cluster of each utterance; -1 is noise."""

    ids: tuple[str, ...]
    labels_N: np.ndarray
    """Int64."""

    def __post_init__(self) -> None:
        _check_ids(self.ids)
        if self.labels_N.shape != (len(self.ids),):
            raise InputError(
                "labels.shape",
                f"labels must have the shape ({len(self.ids)},), got {self.labels_N.shape}",
                self.labels_N.shape,
            )

    def save(self, path: Path) -> None:
        """Write ``[{"id": ..., "label": 0}, ...]``."""
        rows = zip(self.ids, self.labels_N.tolist(), strict=True)
        write_json_list(path, ({"id": id_, "label": label} for id_, label in rows))

    @classmethod
    def load(cls, path: Path) -> "HardLabels":
        rows = _read_rows(path, "label")
        if not all(isinstance(row["label"], int) and abs(row["label"]) < 2**31 for row in rows):
            raise InputError(
                "labels.shape", f"{path}: every label must be a whole number, the number of a cluster", path
            )
        return cls(tuple(row["id"] for row in rows), np.array([row["label"] for row in rows], dtype=np.int64))


def _check_ids(ids: tuple[str, ...]) -> None:
    if len(set(ids)) != len(ids):
        repeated = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(
            "corpus.id-twice", f"every utterance needs an id of its own, {repeated!r} comes more than once", repeated
        )


def _read_rows(path: Path, key: str) -> list[dict]:
    rows = read_json(path, _MADE_BY)
    is_list = isinstance(rows, list) and rows
    if not is_list or not all(isinstance(row, dict) and isinstance(row.get("id"), str) and key in row for row in rows):
        raise InputError(
            "file.malformed", f'{path} must be a list of {{"id": ..., "{key}": ...}} with at least one entry', path
        )
    return rows
