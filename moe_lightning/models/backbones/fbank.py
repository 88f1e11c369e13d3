"""Kaldi's mel filter bank in torch, the input of w2v-BERT: batched, on any device, over real lengths."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.models.backbones.base import Features, frame_mask

WINDOW = 400
HOP = 160
FFT_SIZE = 512
PREEMPHASIS = 0.97
FLOOR = 1.192092955078125e-07
"""Kaldi's: the smallest step of a float32 at 1."""


def fbank(waveforms_BL: Tensor, num_samples_B: Tensor, extractor: Any) -> Features:
    """Log-mel bins with zero mean and unit variance over an utterance, ``stride`` frames stacked into one.

    Equal to `SeamlessM4TFeatureExtractor` within 1e-4. Frames that do not fill a stack are dropped, as by the
    mask there, but count in mean and variance. The log is taken in float64: next to the floor it magnifies
    float32 rounding.

    Args:
        waveforms_BL: Float32 in [-1, 1], 16 kHz; at least `shortest` samples.
        num_samples_B: Real samples of each utterance, int64, at least `shortest`.
        extractor: The model's; it holds window, filters and stride.
    """
    num_frames_B = torch.div(num_samples_B - WINDOW, HOP, rounding_mode="floor") + 1
    window = torch.from_numpy(extractor.window).to(waveforms_BL.device)
    filters_FM = torch.from_numpy(extractor.mel_filters).to(waveforms_BL.device)
    with torch.autocast(waveforms_BL.device.type, enabled=False):
        power_BTF = _power_spectrogram(waveforms_BL.double() * 2**15, window)
        log_BTM = (power_BTF @ filters_FM).clamp(min=FLOOR).log().float()
        normed_BTM = _standardised(log_BTM, num_frames_B)
    stride = extractor.stride
    num_stacks = log_BTM.shape[1] // stride
    stacks_BTM = normed_BTM[:, : num_stacks * stride].reshape(len(normed_BTM), num_stacks, -1)
    num_stacks_B = torch.div(num_frames_B, stride, rounding_mode="floor")
    is_real_BT1 = frame_mask(num_stacks_B, num_stacks)[..., None]
    return Features((stacks_BTM * is_real_BT1).transpose(1, 2), num_stacks_B)


def shortest(extractor: Any) -> int:
    """Samples in one stack of frames; at least two frames, for the variance."""
    return WINDOW + (max(extractor.stride, 2) - 1) * HOP


def _power_spectrogram(waveforms_BL: Tensor, window: Tensor) -> Tensor:
    """Power of zero-mean windows with high frequencies raised; the first sample's predecessor is itself."""
    frames_BTW = waveforms_BL.unfold(1, WINDOW, HOP)
    frames_BTW = frames_BTW - frames_BTW.mean(dim=2, keepdim=True)
    before_BTW = torch.cat([frames_BTW[..., :1], frames_BTW[..., :-1]], dim=2)
    frames_BTW = (frames_BTW - PREEMPHASIS * before_BTW) * window
    return torch.fft.rfft(F.pad(frames_BTW, (0, FFT_SIZE - WINDOW))).abs().square()


def _standardised(log_BTM: Tensor, num_frames_B: Tensor) -> Tensor:
    """Bins with zero mean and unit sample variance (divisor T - 1) over an utterance's frames."""
    is_real_BT1 = frame_mask(num_frames_B, log_BTM.shape[1])[..., None]
    mean_B1M = (log_BTM * is_real_BT1).sum(dim=1, keepdim=True) / num_frames_B[:, None, None]
    centred_BTM = (log_BTM - mean_B1M) * is_real_BT1
    variance_B1M = centred_BTM.square().sum(dim=1, keepdim=True) / (num_frames_B[:, None, None] - 1)
    return centred_BTM / (variance_B1M + 1e-7).sqrt()
