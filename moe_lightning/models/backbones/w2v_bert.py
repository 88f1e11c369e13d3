"""w2v-BERT over real lengths: a conformer on Kaldi's filter bank (Chung et al. 2021, arXiv:2108.06209)."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from moe_lightning.models.backbones.base import Features, Frames, frame_mask
from moe_lightning.models.backbones.ctc import CTCBackbone, check_window
from moe_lightning.models.backbones.fbank import fbank, shortest
from moe_lightning.models.backbones.wav2vec2 import convolved


class W2vBertBackbone(CTCBackbone):
    """A w2v-BERT 2.0 model; its attention's linear layers are named ``linear_q``, ``linear_k``, ``linear_v``."""

    def features(self, waveforms_BL: Tensor, num_samples_B: Tensor, window: float | None = None) -> Features:
        """Filter banks, two frames stacked: one per 20 ms; silence fills up audio shorter than one."""
        check_window(window or self.window)
        least = shortest(self.extractor)
        waveforms_BL = F.pad(waveforms_BL.float(), (0, max(least - waveforms_BL.shape[1], 0)))
        return fbank(waveforms_BL, num_samples_B.clamp(min=least), self.extractor)

    def stem(self, features: Features) -> Frames:
        """The projection; positions enter in the layers' attention."""
        hidden_BTD, _ = self.encoder.feature_projection(features.values_BMT.transpose(1, 2))
        is_real_BT = frame_mask(features.num_frames_B, hidden_BTD.shape[1])
        hidden_BTD = hidden_BTD.masked_fill(~is_real_BT[..., None], 0.0)
        return Frames(self.encoder.encoder.dropout(hidden_BTD), features.num_frames_B)

    def run_layers(self, frames: Frames, first: int = 0, last: int | None = None) -> Frames:
        """Frames after the encoder layers ``first`` to ``last``; with the last one, after the adapter."""
        encoder, hidden_BTD = self.encoder.encoder, frames.values_BTD
        is_full = int(frames.num_frames_B.min()) == hidden_BTD.shape[1]
        is_real_BT = None if is_full else frames.is_real_BT
        positions = None if encoder.embed_positions is None else encoder.embed_positions(hidden_BTD)
        for layer in encoder.layers[first:last]:
            hidden_BTD = layer(
                hidden_BTD,
                attention_mask=None if is_real_BT is None else is_real_BT[:, None, None],
                relative_position_embeddings=positions,
                conv_attention_mask=is_real_BT,
            )
        if last is None and self.encoder.intermediate_ffn is not None:
            hidden_BTD = hidden_BTD + 0.5 * self.encoder.intermediate_ffn(hidden_BTD)
        frames = frames._replace(values_BTD=hidden_BTD)
        return frames if last is not None or self.adapter is None else _shorten(self.adapter, frames)


def _shorten(adapter: Any, frames: Frames) -> Frames:
    """Frames after an adapter; its layers as in transformers, but their convolutions read no padding."""
    hidden_BTD, num_frames_B = frames.values_BTD, frames.num_frames_B
    if adapter.proj is not None:
        hidden_BTD = adapter.proj_layer_norm(adapter.proj(hidden_BTD))
    for layer in adapter.layers:
        is_real_BT1 = frame_mask(num_frames_B, hidden_BTD.shape[1])[..., None]
        residual_BTD = _convolve(layer, layer.residual_conv, layer.residual_layer_norm(hidden_BTD) * is_real_BT1)
        hidden_BTD = _convolve(layer, layer.self_attn_conv, layer.self_attn_layer_norm(hidden_BTD) * is_real_BT1)
        num_frames_B = convolved(num_frames_B, layer.self_attn_conv)
        mask_B11T = frame_mask(num_frames_B, hidden_BTD.shape[1])[:, None, None]
        attended_BTD, _ = layer.self_attn(hidden_BTD, attention_mask=mask_B11T)
        hidden_BTD = layer.self_attn_dropout(attended_BTD) + residual_BTD
        hidden_BTD = layer.ffn(layer.ffn_layer_norm(hidden_BTD)) + hidden_BTD
    return Frames(hidden_BTD, num_frames_B)


def _convolve(layer: Any, conv: Any, hidden_BTD: Tensor) -> Tensor:
    return layer.activation(conv(hidden_BTD.transpose(1, 2))).transpose(1, 2)
