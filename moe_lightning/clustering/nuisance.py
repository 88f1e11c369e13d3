"""Nuisance variables of recordings: measured, and their linear trace removed from embeddings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from moe_lightning.data.audio import SAMPLE_RATE, read_audio
from moe_lightning.data.utterance import Utterance
from moe_lightning.system.terminal import progress

SMALLEST_VARIANCE = 1e-4
"""Relative to the largest: directions with hardly any variance are left alone, not amplified."""


@dataclass(frozen=True)
class Removal:
    """A low-rank projection: identity minus ``write_DJ read_JD``."""

    write_DJ: np.ndarray
    read_JD: np.ndarray

    def apply(self, rows_ND: np.ndarray) -> np.ndarray:
        """Rows (centred like those of the fit) without the trace."""
        return rows_ND - (rows_ND @ self.read_JD.T) @ self.write_DJ.T


def fit_removal(rows_ND: np.ndarray, nuisance_NJ: np.ndarray) -> Removal:
    """The smallest change after which no linear function of the rows predicts the variables.

    Least-squares concept erasure (Belrose et al., "LEACE: Perfect linear concept erasure in closed form", 2023,
    theorem 4.2): in the whitened space, drop the directions of the cross-covariance. Only the fit needs the
    variables; new audio is transformed without them.

    Args:
        rows_ND: Centred.
        nuisance_NJ: A constant column removes nothing.
    """
    values, vectors = np.linalg.eigh(rows_ND.T @ rows_ND / len(rows_ND))
    is_kept = values > SMALLEST_VARIANCE * values.max(initial=0)
    roots, basis_DC = np.sqrt(values[is_kept]), vectors[:, is_kept]
    centred_NJ = nuisance_NJ - nuisance_NJ.mean(axis=0)
    deviation_J = centred_NJ.std(axis=0)
    centred_NJ = centred_NJ[:, deviation_J > 0] / deviation_J[deviation_J > 0]
    whitened_NC = rows_ND @ basis_DC / roots
    directions_CJ = np.linalg.qr(whitened_NC.T @ centred_NJ)[0]
    return Removal((basis_DC * roots) @ directions_CJ, (basis_DC / roots @ directions_CJ).T)


UNITS = {"duration": "s", "snr": "dB", "loudness": "dBFS", "bandwidth": "Hz", "pitch": "Hz"}
NUISANCES = tuple(UNITS)
_MEASURED = "measured "


def measured_name(name: str, taken: Collection[str]) -> str:
    """A variable's name beside the fields of a corpus: ``measured duration`` where the corpus has a ``duration``."""
    return name if name not in taken else f"{_MEASURED}{name}"


def is_nuisance(name: str) -> bool:
    """True for a property of the recording, whether measured here or given by the corpus."""
    return name.removeprefix(_MEASURED) in NUISANCES


def with_unit(name: str) -> str:
    """A variable's name for people, ``pitch (Hz)``; a field of a corpus stays as it is."""
    unit = UNITS.get(name.removeprefix(_MEASURED))
    return f"{name} ({unit})" if unit else name


FRAME = 400  # 25 ms
HOP = 160  # 10 ms
PITCH_FRAME = 800  # 50 ms: two and a half periods of the lowest voice
LOWEST_PITCH, HIGHEST_PITCH = 60, 400
MOST_PITCH_FRAMES = 60
SILENCE = 1e-10


def measure(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """All variables per utterance, name -> (N,); NaN if not measurable, such as the pitch of noise."""
    rows = [measure_waveform(read_audio(utterance)) for utterance in progress(utterances, "measuring audio")]
    return {name: np.array([row[name] for row in rows]) for name in NUISANCES}


def measure_waveform(waveform_L: np.ndarray) -> dict[str, float]:
    """The variables of one waveform, 16 kHz."""
    frames_TL = _frames(waveform_L, FRAME, HOP)
    power_T = (frames_TL**2).mean(axis=1) + SILENCE
    return {
        "duration": len(waveform_L) / SAMPLE_RATE,
        "snr": snr(power_T),
        "loudness": float(10 * np.log10((waveform_L**2).mean() + SILENCE)),
        "bandwidth": bandwidth(frames_TL),
        "pitch": pitch(waveform_L),
    }


def snr(power_T: np.ndarray) -> float:
    """Speech level over noise floor in dB: 95th over 10th percentile of the frames' power."""
    loud, quiet = np.percentile(power_T, [95, 10])
    return float(10 * np.log10(loud / quiet))


def bandwidth(frames_TL: np.ndarray) -> float:
    """Frequency (Hz) below which 99 % of the mean spectrum's power lies."""
    power_F = (np.abs(np.fft.rfft(frames_TL * np.hanning(frames_TL.shape[1]), axis=1)) ** 2).mean(axis=0)
    if not power_F.any():
        return float("nan")
    share_F = np.cumsum(power_F) / power_F.sum()
    return float(np.searchsorted(share_F, 0.99) * SAMPLE_RATE / 2 / (len(power_F) - 1))


def pitch(waveform_L: np.ndarray) -> float:
    """Median fundamental frequency (Hz) of the 60 loudest frames, by autocorrelation; NaN if none is periodic."""
    frames_TL = _frames(waveform_L, PITCH_FRAME, HOP)
    loudest = np.argsort(-(frames_TL**2).sum(axis=1))[:MOST_PITCH_FRAMES]
    frames_TL = frames_TL[loudest] - frames_TL[loudest].mean(axis=1, keepdims=True)
    spectra = np.fft.rfft(frames_TL, 2 * PITCH_FRAME, axis=1)
    correlations_TL = np.fft.irfft(np.abs(spectra) ** 2, axis=1)[:, :PITCH_FRAME]
    first, last = SAMPLE_RATE // HIGHEST_PITCH, SAMPLE_RATE // LOWEST_PITCH
    overlap_L = 1 - np.arange(PITCH_FRAME) / PITCH_FRAME  # fewer samples overlap at a longer lag
    normal_TL = correlations_TL[:, first:last] / (overlap_L[first:last] * correlations_TL[:, :1] + SILENCE)
    is_voiced_T = normal_TL.max(axis=1) > 0.5
    if not is_voiced_T.any():
        return float("nan")
    # the shortest lag that is nearly as good as the best; the best may be half the pitch
    is_good_TL = normal_TL >= 0.9 * normal_TL.max(axis=1, keepdims=True)
    lags_T = first + is_good_TL.argmax(axis=1)
    return float(np.median(SAMPLE_RATE / lags_T[is_voiced_T]))


def _frames(waveform_L: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Overlapping frames, (T, size), float64; a shorter waveform is padded with zeros to one frame."""
    padded = np.pad(waveform_L.astype(np.float64), (0, max(0, size - len(waveform_L))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
