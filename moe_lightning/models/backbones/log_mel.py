"""Whisper's log-mel spectrogram in torch: batched, on any device, over any window."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from moe_lightning.models.backbones.base import Features

SAMPLE_RATE = 16_000
HOP = 160
"""Samples between two mel frames: 100 frames a second."""
WINDOW = 400
WINDOW_SECONDS = 30
"""Whisper's window; its position embeddings end there."""


def log_mel(waveforms_BL: Tensor, num_samples_B: Tensor, num_mel_bins: int, num_window: int = 0) -> Features:
    """Log-mel spectrogram of each utterance, as `WhisperFeatureExtractor` computes it.

    The real frames equal those of the utterance padded with silence to 30 s (within 1e-4). Silence is computed
    up to the window's end; values after it are 0.

    Args:
        waveforms_BL: Float32 in [-1, 1], 16 kHz; zero-padded at the end.
        num_samples_B: Real samples of each utterance, int64.
        num_window: Samples of the window; 0 for real lengths.
    """
    real_B = torch.div(num_samples_B + HOP - 1, HOP, rounding_mode="floor")
    window = -(-num_window // HOP)
    num_frames_B = real_B.clamp(min=window)
    num_frames = int(num_frames_B.max())
    with torch.autocast(waveforms_BL.device.type, enabled=False):
        power_BFT = _power_spectrogram(waveforms_BL.float(), num_frames)
        mel_BMT = _filters(num_mel_bins, waveforms_BL.device) @ power_BFT
        log_BMT = mel_BMT.clamp(min=1e-10).log10()
        is_read_B1T = torch.arange(num_frames, device=log_BMT.device) < num_frames_B[:, None, None]
        loudest_B11 = log_BMT.masked_fill(~is_read_B1T, -10.0).amax(dim=(1, 2), keepdim=True)
        values_BMT = (torch.maximum(log_BMT, loudest_B11 - 8.0) + 4.0) / 4.0
    return Features(values_BMT * is_read_B1T, real_B, window)


def _power_spectrogram(waveforms_BL: Tensor, num_frames: int) -> Tensor:
    """Power of ``num_frames`` windows; mirrored before the start, silent after the end."""
    half = WINDOW // 2
    missing = max(num_frames * HOP + half - waveforms_BL.shape[1], 0)
    padded_BL = torch.nn.functional.pad(waveforms_BL, (0, missing))[:, : num_frames * HOP + half]
    padded_BL = torch.cat([padded_BL[:, 1 : half + 1].flip(1), padded_BL], dim=1)
    window = torch.hann_window(WINDOW, device=waveforms_BL.device)
    spectrum_BFT = torch.stft(padded_BL, WINDOW, HOP, window=window, center=False, return_complex=True)
    return spectrum_BFT[..., :num_frames].abs() ** 2


@lru_cache(maxsize=8)
def _filters(num_mel_bins: int, device: torch.device) -> Tensor:
    filters_FM = mel_filter_bank(
        num_frequency_bins=1 + WINDOW // 2,
        num_mel_filters=num_mel_bins,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters_FM.T.astype(np.float32)).contiguous().to(device)
