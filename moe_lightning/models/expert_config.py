"""Size and place of the experts, and their rows in the stacked deltas."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from moe_lightning.errors import InputError
from moe_lightning.system.json_files import from_json


@dataclass(frozen=True)
class ExpertConfig:
    """Size and place of the experts.

    Raises:
        InputError: A number is out of its range.
    """

    num_experts: int
    """Columns of a gate, including the no-op expert."""
    rank: int = 16
    """Rank of each expert's deltas."""
    alpha: float = 32.0
    """Deltas are scaled by ``alpha / rank``."""
    dropout: float = 0.05
    """On the deltas' input, in training."""
    shared_rank: int = 0
    """Rank of one more expert with a gate of always 1; 0 leaves it out."""
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Linear layers with experts, in encoder and decoder: the last part of a name, or a regular expression
    for the whole name.
    """
    adapt_from_layer: int = 0
    """Encoder layers below this one stay the frozen base; a gate may read their frames on the way."""
    rslora: bool = False
    """Scale deltas by ``alpha / sqrt(rank)``, which keeps their size at higher ranks
    (Kalajdzievski 2023, arXiv:2312.03732, theorem 3.2).
    """
    noop_expert: bool = False
    """The last expert has no deltas: an utterance outside all clusters runs the unchanged backbone, with the
    shared expert if there is one.
    """

    def __post_init__(self) -> None:
        if self.num_experts < 1 or self.rank < 1 or self.shared_rank < 0:
            raise InputError(
                "setting.range",
                "num_experts and rank must be at least 1 and shared_rank at least 0, got"
                f" {self.num_experts}, {self.rank} and {self.shared_rank}",
                (self.num_experts, self.rank, self.shared_rank),
            )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "setting.range", f"dropout must be in [0, 1), got {self.dropout}", f"dropout={self.dropout}"
            )
        if not 0 < self.scale < math.inf:
            raise InputError("setting.range", f"alpha must be over 0, got {self.alpha}", f"alpha={self.alpha}")
        if self.adapt_from_layer < 0:
            raise InputError(
                "setting.range",
                f"adapt_from_layer must be at least 0, got {self.adapt_from_layer}",
                f"adapt_from_layer={self.adapt_from_layer}",
            )
        if self.noop_expert and self.num_experts < 2:
            raise InputError(
                "setting.conflict",
                "noop_expert takes the last of at least 2 experts; there is 1, so leave it out",
                "noop_expert",
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: object = "the settings of the experts") -> "ExpertConfig":
        """From settings with more keys, or settings read from JSON.

        Args:
            where: Their source, for messages.
        """
        return from_json(cls, settings, where)

    @cached_property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @cached_property
    def num_adapted(self) -> int:
        """Experts with deltas: all but the no-op one, the last."""
        return self.num_experts - self.noop_expert

    @cached_property
    def total_rank(self) -> int:
        """Rows of the stacked deltas: the experts one after another, the shared expert last."""
        return self.num_adapted * self.rank + self.shared_rank

    def rows_of(self, expert: int) -> slice:
        """Rows of one expert; none for the no-op expert."""
        assert 0 <= expert < self.num_experts
        end = self.num_adapted * self.rank
        return slice(min(expert * self.rank, end), min((expert + 1) * self.rank, end))

    @cached_property
    def shared_rows(self) -> slice:
        return slice(self.num_adapted * self.rank, self.total_rank)
