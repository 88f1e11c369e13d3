"""Best state of each expert in a joint pre-training, and early stopping per expert."""

import math

import torch
from torch import Tensor, nn

from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.lora import row_mask


class BestExperts(nn.Module):
    """Keeps each expert's rows from its best validation, in buffers: a resumed training continues with them.

    Args:
        patience: Validations without a better loss before an expert stops; None for never.
    """

    loss_E: Tensor
    num_worse_E: Tensor

    def __init__(self, experts: SpeechExperts, patience: int | None):
        super().__init__()
        self.patience = patience
        self.num_adapted = experts.config.num_adapted
        self.register_buffer("loss_E", torch.full((experts.config.num_experts,), math.inf))
        self.register_buffer("num_worse_E", torch.zeros(experts.config.num_experts, dtype=torch.int64))
        for number, parameter in enumerate(experts.expert_parameters()):
            self.register_buffer(f"rows_{number}", parameter.detach().clone())

    @property
    def has_stopped_E(self) -> Tensor:
        """True for experts out of patience, and for the no-op expert: it never learns."""
        is_noop_E = torch.arange(len(self.num_worse_E), device=self.num_worse_E.device) >= self.num_adapted
        return is_noop_E | (self.num_worse_E >= (math.inf if self.patience is None else self.patience))

    @torch.no_grad()
    def update(self, experts: SpeechExperts, loss_E: Tensor) -> None:
        """Keep the rows of experts with a new best loss; an expert without any loss so far keeps its latest rows."""
        is_open_E = ~self.has_stopped_E
        is_unknown_E = loss_E.isnan() & self.loss_E.isinf()
        is_better_E = is_open_E & ((loss_E < self.loss_E) | is_unknown_E)
        self.loss_E.copy_(torch.where(is_better_E & ~is_unknown_E, loss_E, self.loss_E))
        self.num_worse_E.copy_(torch.where(is_better_E, 0, self.num_worse_E + 1))
        is_better_R = row_mask(is_better_E, experts.config)
        for number, parameter in enumerate(experts.expert_parameters()):
            rows_RD = self.get_buffer(f"rows_{number}")
            rows_RD.copy_(torch.where(is_better_R[:, None], parameter, rows_RD))

    @torch.no_grad()
    def restore(self, experts: SpeechExperts) -> None:
        """Give each expert its best rows back."""
        for number, parameter in enumerate(experts.expert_parameters()):
            parameter.copy_(self.get_buffer(f"rows_{number}"))
