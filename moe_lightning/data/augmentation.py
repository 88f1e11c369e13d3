"""Augmentation of training utterances: speed, noise and rooms in the waveform; SpecAugment in the spectrogram."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from moe_lightning.data.audio import SAMPLE_RATE, read_file
from moe_lightning.data.utterance import MAX_SECONDS
from moe_lightning.errors import InputError

_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".mp3", ".opus"}


@dataclass(frozen=True)
class Augmentation:
    """Speed perturbation, reverberation and noise, in this order, each with its own probability.

    Args:
        speeds: One is drawn for each utterance; 0.9 is slower, lower and longer (Ko et al. 2015, Audio
            Augmentation for Speech Recognition, section 2).
        noise_files: Recordings of noise; a random segment of one is added.
        noise_share: Part of the utterances that get noise, 0 to 1.
        snr_db: Range of the signal-to-noise ratio, in decibels.
        reverb_files: Room impulse responses.
        reverb_share: Part of the utterances that get reverberation, 0 to 1.
        seed: Determines all random draws, together with epoch and row.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise_files: tuple[Path, ...] = ()
    noise_share: float = 0.5
    snr_db: tuple[float, float] = (5.0, 20.0)
    reverb_files: tuple[Path, ...] = ()
    reverb_share: float = 0.3
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.speeds or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise InputError(
                "setting.range",
                f"speeds must be between 0.5 and 2.0, got {list(self.speeds)}",
                f"speeds={list(self.speeds)}",
            )
        for name, share in (("noise_share", self.noise_share), ("reverb_share", self.reverb_share)):
            if not 0 <= share <= 1:
                raise InputError("setting.range", f"{name} must be in 0..1, got {share}", f"{name}={share}")
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise InputError(
                "setting.range",
                f"snr_db must be two numbers, the lower first, got {list(self.snr_db)}",
                f"snr_db={list(self.snr_db)}",
            )

    @classmethod
    def from_folders(
        cls,
        speeds: Sequence[float] = (1.0,),
        noise_dir: str | Path | None = None,
        noise_share: float = 0.5,
        snr_db: Sequence[float] = (5.0, 20.0),
        reverb_dir: str | Path | None = None,
        reverb_share: float = 0.3,
        seed: int = 42,
    ) -> "Augmentation | None":
        """An augmentation from flat settings, as in a YAML file; None if they request none.

        Raises:
            InputError: A folder is missing or holds no recording; a value is out of range.
        """
        noise_files, reverb_files = _recordings(noise_dir, "noise_dir"), _recordings(reverb_dir, "reverb_dir")
        low, high = snr_db
        made = cls(tuple(speeds), noise_files, noise_share, (low, high), reverb_files, reverb_share, seed)
        return made if noise_files or reverb_files or set(speeds) != {1.0} else None

    def __call__(self, waveform_L: np.ndarray, epoch: int, row: int) -> np.ndarray:
        """The augmented waveform for an epoch, float32; its length changes with the speed."""
        rng = np.random.default_rng([self.seed, epoch, row])
        waveform_L = change_speed(waveform_L, float(rng.choice(self.speeds)))
        if self.reverb_files and rng.random() < self.reverb_share:
            waveform_L = add_room(waveform_L, read_file(self._one_of(self.reverb_files, rng)))
        if self.noise_files and rng.random() < self.noise_share:
            noise_L = read_file(self._one_of(self.noise_files, rng))
            waveform_L = add_noise(waveform_L, noise_L, rng.uniform(*self.snr_db), rng)
        return waveform_L.astype(np.float32, copy=False)

    def _one_of(self, files: tuple[Path, ...], rng: np.random.Generator) -> Path:
        return files[int(rng.integers(len(files)))]


def change_speed(waveform_L: np.ndarray, speed: float) -> np.ndarray:
    """Faster (over 1) and higher, or slower and lower; unchanged if it would exceed Whisper's window."""
    if speed == 1.0 or len(waveform_L) / speed > MAX_SECONDS * SAMPLE_RATE:
        return waveform_L
    import torch
    from torchaudio.functional import resample

    # As if recorded at another rate: 110 samples become 100, played at the old rate.
    return resample(torch.from_numpy(waveform_L), round(speed * 100), 100).numpy()


def add_room(waveform_L: np.ndarray, response_L: np.ndarray) -> np.ndarray:
    """Add reverberation; length and level stay. The response starts at its highest peak."""
    from scipy.signal import fftconvolve

    response_L = response_L[int(np.argmax(np.abs(response_L))) :]
    wet_L = fftconvolve(waveform_L, response_L)[: len(waveform_L)]
    return wet_L * (_rms(waveform_L) / max(_rms(wet_L), 1e-10))


def add_noise(waveform_L: np.ndarray, noise_L: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add a random segment of the noise, repeated if too short, ``snr_db`` below the speech."""
    start = int(rng.integers(len(noise_L)))
    stretch_L = np.resize(np.roll(noise_L, -start), len(waveform_L))
    gain = _rms(waveform_L) / max(_rms(stretch_L), 1e-10) * 10 ** (-snr_db / 20)
    return waveform_L + gain * stretch_L


def _rms(waveform_L: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform_L, dtype=np.float64))))


def _recordings(folder: str | Path | None, name: str) -> tuple[Path, ...]:
    if folder is None:
        return ()
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise InputError(
            "audio.no-folder",
            f"{name} {folder} holds no recordings; give a folder with wav, flac, ogg or mp3 files",
            folder,
        )
    return tuple(found)


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
            raise InputError(
                "setting.range",
                "num_freq_masks, max_freq_bins and num_time_masks must be 0 or more",
                "num_freq_masks, max_freq_bins, num_time_masks",
            )
        if not 0 <= self.max_time_share <= 1:
            raise InputError(
                "setting.range",
                f"max_time_share must be in 0..1, got {self.max_time_share}",
                f"max_time_share={self.max_time_share}",
            )

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
                "setting.conflict",
                f"num_freq_masks is {self.num_freq_masks}, and the speech model reads waveforms, which have no bands;"
                " set it to 0 (num_time_masks hides stretches of a waveform too)",
                f"num_freq_masks={self.num_freq_masks}",
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
