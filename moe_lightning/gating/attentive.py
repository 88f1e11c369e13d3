"""A gate with attention over frames and layers: it can use information that the pooled embedding averages away."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from moe_lightning.backbone.speech import Frames
from moe_lightning.errors import InputError
from moe_lightning.gating.model import Gate


class AttentiveGate(nn.Module):
    """Learned weights for encoder layers, attentive statistics pooling over real frames, then the two-layer head.

    The layers' frames are joined along D and standardised, so that the softmax weights compare like with like. Each
    frame then gets a scalar weight; the head reads mean and standard deviation under these weights (Okabe et al.
    2018, arXiv:1803.10963, section 3). Initially all weights are equal: plain statistics of the mean layer.

    Args:
        frame_dim: D of joined frames: number of layers times the size of an encoder frame.
        num_layers: Number of layers joined in a frame.
        num_experts: E.
        hidden_dim: Width of the head's hidden layer.
        attention_dim: Width of the network for the frame weights.

    Raises:
        InputError: A size is not positive, or ``frame_dim`` is not a multiple of ``num_layers``.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(
        self, frame_dim: int, num_layers: int, num_experts: int, hidden_dim: int = 512, attention_dim: int = 64
    ):
        super().__init__()
        if num_layers < 1 or frame_dim % num_layers:
            raise InputError(f"frames of size {frame_dim} are not {num_layers} encoder layers joined")
        if attention_dim < 1:
            raise InputError(f"attention_dim must be at least 1, got {attention_dim}")
        layer_dim = frame_dim // num_layers
        self.num_layers = num_layers
        self.register_buffer("mean_D", torch.zeros(frame_dim))
        self.register_buffer("std_D", torch.ones(frame_dim))
        self.layer_logits = nn.Parameter(torch.zeros(num_layers))
        self.frame_hidden = nn.Linear(layer_dim, attention_dim)
        self.frame_score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax
        nn.init.zeros_(self.frame_score.weight)
        self.head = Gate(2 * layer_dim, num_experts, hidden_dim)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Frames]) -> None:
        """Set mean and deviation of frames, and then of the head's input, from training utterances.

        Args:
            batches: Iterated twice, so not an iterator.
        """
        count, sum_D = 0, self.mean_D.new_zeros(self.mean_D.shape, dtype=torch.float64)
        squares_D = sum_D.clone()
        for frames in batches:
            real_ND = frames.values_BTD[frames.is_real_BT].double()
            count += len(real_ND)
            sum_D += real_ND.sum(dim=0)
            squares_D += (real_ND**2).sum(dim=0)
        assert count, "there must be frames to standardise by"
        mean_D = sum_D / count
        std_D = (squares_D / count - mean_D**2).clamp_min(0).sqrt().float()
        self.mean_D.copy_(mean_D)
        self.std_D.copy_(torch.where(std_D > 1e-6, std_D, torch.ones_like(std_D)))
        self.head.standardise(torch.cat([self.pool(frames) for frames in batches]))

    def pool(self, frames: Frames) -> Tensor:
        """Input of the head: mean and standard deviation of the weighted frames, (B, 2 D), float32; D per layer."""
        with torch.autocast(frames.values_BTD.device.type, enabled=False):
            is_real_BT1 = frames.is_real_BT[..., None]
            values_BTD = frames.values_BTD.float().masked_fill(~is_real_BT1, 0.0)  # padding may hold any value
            standard_BTD = (values_BTD - self.mean_D) / self.std_D
            weights_H = self.layer_logits.softmax(dim=0)
            mixed_BTD = torch.einsum("bthd,h->btd", standard_BTD.unflatten(2, (self.num_layers, -1)), weights_H)
            weights_BT1 = self._frame_weights(mixed_BTD, frames.is_real_BT)[..., None]
            mean_BD = (weights_BT1 * mixed_BTD).sum(dim=1)
            variance_BD = (weights_BT1 * (mixed_BTD - mean_BD[:, None]) ** 2).sum(dim=1)
            return torch.cat([mean_BD, (variance_BD + 1e-6).sqrt()], dim=1)  # the root has no finite gradient at 0

    def forward(self, frames: Frames) -> Tensor:
        """``logits_BE``, always float32, even in mixed-precision training."""
        return self.head(self.pool(frames))

    def _frame_weights(self, mixed_BTD: Tensor, is_real_BT: Tensor) -> Tensor:
        scores_BT = self.frame_score(torch.tanh(self.frame_hidden(mixed_BTD)))[..., 0]
        return scores_BT.masked_fill(~is_real_BT, -torch.inf).softmax(dim=1)
