"""Per-utterance expert weights, shared by all LoRA layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from moe_lightning.experts.expert_config import ExpertConfig


class Mix(NamedTuple):
    """The gates of a batch in the layers' layout."""

    ranks_BR: Tensor
    """``scale * gate`` for each row of the stacked deltas; ``scale`` for the shared rows."""
    kept_BK: Tensor | None
    """Experts with a nonzero gate, equally many per utterance; None if more than half of all, or none."""
    kept_ranks_BR: Tensor | None
    """``ranks_BR`` of the kept experts' rows and the shared rows."""
    gathered: dict[Any, tuple[Tensor, Tensor]]
    """Rows of the kept experts by layer, reused for each token."""

    @property
    def is_worth_gathering(self) -> bool:
        """True if the rows of all utterances' experts are few enough to be kept during decoding."""
        if self.kept_ranks_BR is None:
            return False
        return self.kept_ranks_BR.numel() <= 2 * self.ranks_BR.shape[1]


class Shares:
    """One object read by all layers of a model.

    Outside `set`, the layers are the frozen backbone alone.
    """

    def __init__(self, config: ExpertConfig):
        self.config = config
        self.now: Mix | None = None

    @contextmanager
    def set(self, gate_BE: Tensor) -> Iterator[None]:
        """Context in which every layer mixes its experts by these gates (the shared expert counts in full)."""
        with self.hold(self.mix(gate_BE)):
            yield

    @contextmanager
    def hold(self, mix: Mix | None) -> Iterator[None]:
        """Context with this mix: a layer that runs again for its gradient needs the mix of its forward pass."""
        before, self.now = self.now, mix
        try:
            yield
        finally:
            self.now = before

    def mix(self, gate_BE: Tensor) -> Mix:
        """The gates in the layers' layout.

        An expert with a gate of exactly 0 is not computed if few others run, so its gate then has no gradient.
        """
        config = self.config
        assert gate_BE.shape[1] == config.num_experts, f"{gate_BE.shape[1]} gates for {config.num_experts} experts"
        adapted_BE = gate_BE[:, : config.num_adapted]
        ranks_BR = self._over_ranks(adapted_BE)
        num_kept = int((adapted_BE.detach() != 0).sum(dim=1).max()) if len(gate_BE) else 0
        if not 0 < 2 * num_kept <= config.num_adapted:
            return Mix(ranks_BR, None, None, {})
        kept_BK = adapted_BE.detach().abs().topk(num_kept, dim=1).indices
        return Mix(ranks_BR, kept_BK, self._over_ranks(adapted_BE.gather(1, kept_BK)), {})

    def row_mask(self, is_chosen_E: Tensor) -> Tensor:
        """True at the rows of these experts, (R,); the shared rows belong to none."""
        own_R = is_chosen_E[: self.config.num_adapted].repeat_interleave(self.config.rank)
        return torch.cat([own_R, own_R.new_zeros(self.config.shared_rank)])

    def _over_ranks(self, gate_BK: Tensor) -> Tensor:
        """``scale * gate`` repeated over the experts' ranks, and the scale for the shared rows."""
        ranks_BR = gate_BK.repeat_interleave(self.config.rank, dim=1)
        if self.config.shared_rank:
            ranks_BR = torch.cat([ranks_BR, ranks_BR.new_ones(len(gate_BK), self.config.shared_rank)], dim=1)
        return ranks_BR * self.config.scale
