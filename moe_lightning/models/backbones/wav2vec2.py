"""wav2vec 2.0, HuBERT and WavLM over real lengths: an utterance's frames do not depend on its batch.

Baevski et al. 2020, arXiv:2006.11477; Hsu et al. 2021, arXiv:2106.07447; Chen et al. 2021,
arXiv:2110.13900. In transformers, padding changes an utterance's frames through the first convolution's
normalisation over time (the base models), and through HuBERT's batch norm before the positions; here it
does not. No layer is dropped in training (``layerdrop``): its experts would have no gradient.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.models.backbones.base import Features, Frames, frame_mask
from moe_lightning.models.backbones.ctc import CTCBackbone, check_window
from moe_lightning.models.backbones.pretrained import CTCParts
from moe_lightning.models.backbones.window import Window


class Wav2Vec2Backbone(CTCBackbone):
    """A wav2vec 2.0 or HuBERT model."""

    def features(self, waveforms_BL: Tensor, num_samples_B: Tensor, window: float | None = None) -> Features:
        """Waveforms, with zero mean and unit variance each if the feature extractor says so.

        Silence fills up an utterance shorter than the convolutions' window (25 ms).
        """
        check_window(window or self.window)
        shortest = self._shortest()
        waveforms_BL = F.pad(waveforms_BL.float(), (0, max(shortest - waveforms_BL.shape[1], 0)))
        num_samples_B = num_samples_B.clamp(min=shortest)
        if self.extractor.do_normalize:
            waveforms_BL = standardised(waveforms_BL, num_samples_B)
        return Features(waveforms_BL[:, None], num_samples_B)

    def stem(self, features: Features) -> Frames:
        """Convolutions, projection and positions; one frame per 20 ms."""
        hidden_BDT, num_frames_B = features.values_BMT, features.num_frames_B
        for layer in self.encoder.feature_extractor.conv_layers:
            num_frames_B = convolved(num_frames_B, layer.conv)
            hidden_BDT = _convolve(layer, hidden_BDT, num_frames_B)
        projected = self.encoder.feature_projection(hidden_BDT.transpose(1, 2))
        hidden_BTD = projected[0] if isinstance(projected, tuple) else projected
        is_real_BT1 = frame_mask(num_frames_B, hidden_BTD.shape[1])[..., None]
        hidden_BTD = hidden_BTD.masked_fill(~is_real_BT1, 0.0)
        hidden_BTD = hidden_BTD + _positions(self.encoder.encoder.pos_conv_embed, hidden_BTD, is_real_BT1)
        if not self._norm_is_last:
            hidden_BTD = self.encoder.encoder.layer_norm(hidden_BTD)
        return Frames(self.encoder.encoder.dropout(hidden_BTD), num_frames_B)

    def run_layers(self, frames: Frames, first: int = 0, last: int | None = None) -> Frames:
        """Frames after the encoder layers ``first`` to ``last``; with the last one, after norm and adapter."""
        frames = frames._replace(values_BTD=self._layers(frames, first, last))
        if last is not None:
            return frames
        if self._norm_is_last:
            frames = frames._replace(values_BTD=self.encoder.encoder.layer_norm(frames.values_BTD))
        return frames if self.adapter is None else _shorten(self.adapter, frames)

    def _layers(self, frames: Frames, first: int, last: int | None) -> Tensor:
        hidden_BTD = frames.values_BTD
        mask_B11T = None if _is_full(frames) else frames.is_real_BT[:, None, None]
        for layer in self.encoder.encoder.layers[first:last]:
            hidden_BTD = layer(hidden_BTD, attention_mask=mask_B11T)
        return hidden_BTD

    @property
    def _norm_is_last(self) -> bool:
        """True if layers normalise their input, with a final norm after the last one."""
        return bool(self.model.config.do_stable_layer_norm)

    def _shortest(self) -> int:
        """Fewest samples for one frame of the convolutions."""
        num_samples = 1
        for layer in reversed(self.encoder.feature_extractor.conv_layers):
            num_samples = (num_samples - 1) * layer.conv.stride[0] + layer.conv.kernel_size[0]
        return num_samples


class WavLMBackbone(Wav2Vec2Backbone):
    """A WavLM model: all layers add layer 0's distance embedding to their attention."""

    def __init__(self, parts: CTCParts, window: Window = "auto"):
        super().__init__(parts, window)
        for layer in self.encoder.encoder.layers:
            call_projections(layer.attention)

    def _layers(self, frames: Frames, first: int, last: int | None) -> Tensor:
        hidden_BTD = frames.values_BTD
        mask_BT = None if _is_full(frames) else frames.is_real_BT
        bias_HTT = self.encoder.encoder.layers[0].attention.compute_bias(hidden_BTD.shape[1], hidden_BTD.shape[1])
        bias_NTT = bias_HTT.repeat(len(hidden_BTD), 1, 1)
        for layer in self.encoder.encoder.layers[first:last]:
            hidden_BTD = layer(hidden_BTD, attention_mask=mask_BT, position_bias=bias_NTT)[0]
        return hidden_BTD


def standardised(waveforms_BL: Tensor, num_samples_B: Tensor) -> Tensor:
    """Waveforms with zero mean and unit variance over their real samples, zeros after them."""
    is_real_BL = frame_mask(num_samples_B, waveforms_BL.shape[1])
    mean_B1 = (waveforms_BL * is_real_BL).sum(dim=1, keepdim=True) / num_samples_B[:, None]
    centred_BL = (waveforms_BL - mean_B1) * is_real_BL
    variance_B1 = centred_BL.square().sum(dim=1, keepdim=True) / num_samples_B[:, None]
    return centred_BL / (variance_B1 + 1e-7).sqrt()


def convolved(num_frames_B: Tensor, conv: nn.Conv1d) -> Tensor:
    """Number of frames after a convolution."""
    padding = int(conv.padding[0])
    return torch.div(num_frames_B + 2 * padding - conv.kernel_size[0], conv.stride[0], rounding_mode="floor") + 1


def _convolve(layer: Any, hidden_BDT: Tensor, num_frames_B: Tensor) -> Tensor:
    """One convolution layer; any normalisation over time uses an utterance's own frames."""
    norm = getattr(layer, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm) or int(num_frames_B.min()) == int(num_frames_B.max()):
        return layer(hidden_BDT)
    hidden_BDT = layer.conv(hidden_BDT)
    width = hidden_BDT.shape[2]
    rows = [
        F.pad(norm(hidden_DT[None, :, :num_frames])[0], (0, width - num_frames))
        for hidden_DT, num_frames in zip(hidden_BDT, num_frames_B.tolist(), strict=True)
    ]
    return layer.activation(torch.stack(rows))


def _positions(embed: Any, hidden_BTD: Tensor, is_real_BT1: Tensor) -> Tensor:
    """Positional convolution; after an utterance's end it reads zeros.

    HuBERT's batch norm keeps its trained statistics: the backbone is frozen.
    """
    norm = getattr(embed, "batch_norm", None)
    hidden_BDT = hidden_BTD.transpose(1, 2)
    if norm is not None:
        hidden_BDT = F.batch_norm(hidden_BDT, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        hidden_BDT = hidden_BDT * is_real_BT1.transpose(1, 2)
    return embed.activation(embed.padding(embed.conv(hidden_BDT))).transpose(1, 2)


def _shorten(adapter: Any, frames: Frames) -> Frames:
    """Frames after an adapter; its convolutions read zeros after an utterance's end."""
    hidden_BTD, num_frames_B = frames.values_BTD, frames.num_frames_B
    if adapter.proj is not None:
        hidden_BTD = adapter.proj_layer_norm(adapter.proj(hidden_BTD))
    for layer in adapter.layers:
        is_real_BT1 = frame_mask(num_frames_B, hidden_BTD.shape[1])[..., None]
        hidden_BTD = layer((hidden_BTD * is_real_BT1).transpose(1, 2)).transpose(1, 2)
        num_frames_B = convolved(num_frames_B, layer.conv)
    return Frames(hidden_BTD, num_frames_B)


def _is_full(frames: Frames) -> bool:
    """True if nothing is padded; no mask keeps the fast kernels."""
    return int(frames.num_frames_B.min()) == frames.values_BTD.shape[1]


def call_projections(attention: Any) -> None:
    """Make a WavLM self-attention call its projections; any other module stays unchanged."""
    if hasattr(attention, "torch_multi_head_self_attention"):
        attention.torch_multi_head_self_attention = MethodType(_self_attention, attention)


def _self_attention(attention: Any, x_BTD: Tensor, is_real_BT: Tensor | None, bias_NTT: Tensor) -> tuple[Tensor, None]:
    """As ``WavLMAttention.torch_multi_head_self_attention``, without the unused attention weights.

    Args:
        is_real_BT: 1 at frames open to attention.
        bias_NTT: For relative positions, gated by the frames; N is utterances times heads.
    """
    num_utterances, num_frames, _ = x_BTD.shape
    shape = (num_utterances, num_frames, attention.num_heads, attention.head_dim)
    q_BHTd, k_BHTd, v_BHTd = (
        project(x_BTD).view(shape).transpose(1, 2) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias_BHTT = bias_NTT.view(num_utterances, attention.num_heads, num_frames, num_frames)
    if is_real_BT is not None:
        bias_BHTT = bias_BHTT.masked_fill(is_real_BT.ne(1)[:, None, None], -torch.inf)
    dropout = attention.dropout if attention.training else 0.0
    y_BHTd = F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, bias_BHTT.to(q_BHTd.dtype), dropout)
    return attention.out_proj(y_BHTd.transpose(1, 2).reshape(x_BTD.shape)), None
