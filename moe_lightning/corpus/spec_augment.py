"""SpecAugment: masks parts of the log-mel spectrogram in training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_lightning.errors import InputError


@dataclass(frozen=True)
class SpecAugment:
    """Masks bands of mel bins and segments of frames, drawn for each utterance.

    Park et al. 2019, SpecAugment, section 2, without time warping; the longest segment grows with the utterance as in
    Park et al. 2020, SpecAugment on Large Scale Datasets, section 3.

    Args:
        num_freq_masks: Bands per utterance.
        max_freq_bins: Maximum width of a band; drawn from 0 on.
        num_time_masks: Segments per utterance.
        max_time_share: Maximum segment length, as a share of the utterance's frames.
    """

    num_freq_masks: int = 2
    max_freq_bins: int = 27
    num_time_masks: int = 2
    max_time_share: float = 0.05

    def __post_init__(self) -> None:
        if min(self.num_freq_masks, self.max_freq_bins, self.num_time_masks) < 0:
            raise InputError("num_freq_masks, max_freq_bins and num_time_masks must be 0 or more")
        if not 0 <= self.max_time_share <= 1:
            raise InputError(f"max_time_share must be in 0..1, got {self.max_time_share}")

    def __call__(self, log_mel_BMT: Tensor, num_frames_B: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The spectrograms; masked parts get their utterance's mean over real frames.

        Args:
            num_frames_B: Real frames of each utterance; segments lie inside them.
            generator: Random generator for the masks, on the tensor's device; None is torch's own.

        Raises:
            InputError: Bands are requested for a waveform (one bin); a waveform allows only segments.
        """
        num_bins, num_frames = log_mel_BMT.shape[1:]
        if num_bins == 1 and self.num_freq_masks:
            raise InputError(
                f"num_freq_masks is {self.num_freq_masks}, and the speech model reads waveforms, which have no bands;"
                " set it to 0 (num_time_masks hides stretches of a waveform too)"
            )
        device = log_mel_BMT.device
        is_real_BT = torch.arange(num_frames, device=device) < num_frames_B[:, None]
        widths_B = torch.full_like(num_frames_B, min(self.max_freq_bins, num_bins))
        bins_B = torch.full_like(num_frames_B, num_bins)
        bands_BM = _masks(num_bins, bins_B, widths_B, self.num_freq_masks, generator)
        lengths_B = (num_frames_B * self.max_time_share).long()
        stretches_BT = _masks(num_frames, num_frames_B, lengths_B, self.num_time_masks, generator)
        hidden_BMT = (bands_BM[:, :, None] | stretches_BT[:, None, :]) & is_real_BT[:, None, :]
        sums_B = (log_mel_BMT * is_real_BT[:, None, :]).sum(dim=(1, 2))
        means_B = sums_B / (num_frames_B.clamp(min=1) * num_bins)
        return torch.where(hidden_BMT, means_B[:, None, None].to(log_mel_BMT.dtype), log_mel_BMT)


def _masks(
    size: int, sizes_B: Tensor, max_widths_B: Tensor, num_masks: int, generator: torch.Generator | None
) -> Tensor:
    """``num_masks`` random segments of each row, (B, size) bool: width up to its maximum, anywhere inside its size."""
    shape = (len(sizes_B), num_masks)
    draws_2BK = torch.rand((2, *shape), device=sizes_B.device, generator=generator)
    widths_BK = (draws_2BK[0] * (max_widths_B[:, None] + 1)).long()
    starts_BK = (draws_2BK[1] * (sizes_B[:, None] - widths_BK + 1)).long()
    places = torch.arange(size, device=sizes_B.device)
    inside_BKx = (places >= starts_BK[..., None]) & (places < (starts_BK + widths_BK)[..., None])
    return inside_BKx.any(dim=1)
