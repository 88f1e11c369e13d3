"""Data augmentation at reading time: speed perturbation, reverberation, noise.

The result is a function of (seed, epoch, row in the corpus): a resumed run gets the same audio as one never
stopped, with any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from moe_lightning.corpus.audio import SAMPLE_RATE, read_file
from moe_lightning.corpus.utterance import MAX_SECONDS
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
            raise InputError(f"speeds must be between 0.5 and 2.0, got {list(self.speeds)}")
        for name, share in (("noise_share", self.noise_share), ("reverb_share", self.reverb_share)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} must be in 0..1, got {share}")
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise InputError(f"snr_db must be two numbers, the lower first, got {list(self.snr_db)}")

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
        raise InputError(f"{name} {folder} holds no recordings; give a folder with wav, flac, ogg or mp3 files")
    return tuple(found)
