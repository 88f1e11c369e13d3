"""Audio files -> 16 kHz mono waveforms."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moe_lightning.data.containers import Bytes, measure
from moe_lightning.data.utterance import AudioInfo, Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.system.plain_files import refuse_special
from moe_lightning.system.terminal import quiet_decoder

SAMPLE_RATE = 16_000
"""In Hz, for every waveform after reading; Whisper and similar models expect it."""
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
MAX_SAMPLES = 2**29
"""Limit over all channels for one decoding: 2 GiB, 3 hours of mono at 48 kHz. A file of megabytes can hold years."""
MAX_AMPLITUDE = 4.0
"""Limit for floats, where 1 is full scale; integers that were saved as floats reach thousands."""
CANCELLED = 0.05
"""Two channels cancel each other if their mean has less than this share of their energy: a correlation under -0.9."""
TOLERANCE = 0.5
"""Seconds by which decoded audio may be shorter than its header says: encoders pad, and people round."""
_CHECKED_SECONDS = 60.0
"""Of a recording in floats, whose header tells no range."""
_UNPROVEN = ("DWVW", "GSM", "G72", "ADPCM", "DPCM", "VOX", "NMS")
"""Beginnings of encodings whose files may have a header that can be read, and samples that cannot."""
REPAIR = "repair or remove it"
"""End of every message about a broken recording."""


OTHER_SUFFIXES = (
    *(".m4a", ".mp4", ".aac", ".wma", ".webm", ".mka", ".mkv", ".mov", ".avi", ".amr", ".3gp", ".3ga", ".ape", ".wv"),
    *(".raw", ".pcm"),
)
"""Of recordings that libsndfile does not read; ffmpeg does."""
_FAULTS = (OSError, RuntimeError, TypeError, soundfile.SoundFileError)
"""Of soundfile; a TypeError asks for the rate of samples without a header (``.raw``)."""
_UNKNOWN_LENGTH = 2**48
"""Samples that no recording has: FLAC from a pipe has no length in its header."""


def read_header(audio_file: Path) -> AudioInfo:
    """Sample rate, channels and length of a recording, without decoding if its format allows.

    Raises:
        InputError: The file is missing, empty, in a format unknown to libsndfile, or over `MAX_SAMPLE_RATE` or
            `MAX_CHANNELS`.
    """
    _refuse_special(audio_file)
    try:
        with quiet_decoder(audio_file):
            info = soundfile.info(str(audio_file))
        _check_header(audio_file, info)
        if "ADPCM" in info.subtype or info.subtype.startswith(_UNPROVEN):
            _decode(audio_file, 0.0, 1.0)
        elif info.subtype in ("FLOAT", "DOUBLE"):
            _check_samples(audio_file, _decode(audio_file, 0.0, _CHECKED_SECONDS)[0])
    except _FAULTS as error:
        raise InputError(
            "audio.undecodable", f"{audio_file} {describe_fault(audio_file, error)}; {REPAIR}", audio_file
        ) from error
    return AudioInfo(info.samplerate, info.channels, info.frames)


_LARGE_HEAD = 4096
"""Bytes; a larger file holds more than a header."""


def _check_header(audio_file: Path, info: Any) -> None:
    if info.frames <= 0 or info.samplerate <= 0:
        size = audio_file.stat().st_size
        unclosed = "; its header was never closed (`sox --ignore-length` writes it anew)" if size > _LARGE_HEAD else ""
        said = f" by its header, and has {size:,} bytes{unclosed}" if unclosed else ""
        raise InputError("audio.empty", f"{audio_file} holds no samples{said}; {REPAIR}", audio_file)
    if info.frames >= _UNKNOWN_LENGTH:
        raise InputError(
            "audio.undecodable",
            f"{audio_file} has no length in its header; write it anew (`ffmpeg -i {audio_file.name} new.flac`)",
            audio_file,
        )
    if info.samplerate > MAX_SAMPLE_RATE or info.channels > MAX_CHANNELS:
        raise InputError(
            "audio.too-large",
            f"{audio_file} says that it has {info.channels} channels at {info.samplerate} Hz, at most {MAX_CHANNELS} at"
            f" {MAX_SAMPLE_RATE} Hz are taken; {REPAIR}",
            audio_file,
        )


def measured(audio_file: Path, info: AudioInfo) -> Bytes:
    """Length of a recording by its bytes.

    Raises:
        InputError: Decoders would read only a part of it, such as the first of several recordings.
    """
    found = measure(audio_file, info)
    if found.unread:
        raise InputError("audio.joined", f"{audio_file} {found.unread}", audio_file)
    return found


def read_audio(utterance: Utterance) -> np.ndarray:
    """Waveform of an utterance, float32 (L,), 16 kHz; its channel, or the mean of all.

    Raises:
        InputError: The file cannot be read, has no samples at the utterance's start, lacks its channel, has too many
            samples to decode, is cut off, or a sample is not finite or out of range.
    """
    samples_LC, sample_rate = read_channels(utterance)
    return resample(_one_channel(utterance.audio_file, samples_LC, utterance.channel), sample_rate)


def read_channels(utterance: Utterance) -> tuple[np.ndarray, int]:
    """Samples of all channels of an utterance, float32 (L, C), and their rate.

    Raises:
        InputError: As `read_audio`.
    """
    path = utterance.audio_file
    _refuse_special(path)
    try:
        with quiet_decoder(path):
            samples_LC, sample_rate, wanted = _decode(path, utterance.start, utterance.duration)
    except _FAULTS as error:
        raise InputError("audio.undecodable", f"{path} {describe_fault(path, error)}; {REPAIR}", path) from error
    if not len(samples_LC):
        raise InputError("audio.span", f"{path} holds no samples at {utterance.start} s; {REPAIR}", path)
    if wanted - len(samples_LC) > TOLERANCE * sample_rate:
        lost = (wanted - len(samples_LC)) / sample_rate
        raise InputError("audio.cut-off", f"{path} is cut off: {lost:.2f} s of its end are missing; {REPAIR}", path)
    _check_samples(path, samples_LC)
    return samples_LC, sample_rate


def _decode(path: Path, start: float, duration: float) -> tuple[np.ndarray, int, int]:
    """Samples (L, C) of a stretch, their rate, and their number by the header.

    Raises:
        InputError: The file has no samples at the start, or too many to decode.
    """
    with soundfile.SoundFile(str(path)) as file:
        rate = file.samplerate
        first = round(start * rate)
        if start * rate >= file.frames:
            raise InputError("audio.span", f"{path} holds no samples at {start} s; {REPAIR}", path)
        wanted = round(min(duration * rate, file.frames))
        _refuse_bomb(path, wanted, file.channels)
        if first and file.seekable():
            file.seek(first)
        elif first:  # GSM and the like: what lies before is decoded too
            _refuse_bomb(path, first + wanted, file.channels)
            file.read(first, dtype="float32")
        return file.read(wanted, dtype="float32", always_2d=True), rate, min(wanted, file.frames - first)


def _check_samples(path: Path, samples_LC: np.ndarray) -> None:
    if not np.isfinite(samples_LC).all():
        raise InputError("audio.not-finite", f"{path} holds samples that are not finite; {REPAIR}", path)
    largest = float(np.abs(samples_LC).max())
    if largest > MAX_AMPLITUDE:
        raise InputError(
            "audio.out-of-range",
            f"{path} has samples up to {largest:.0f}, and full scale is 1: they are integers that were saved as floats;"
            f" divide them by 32768, or save them as 16-bit integers; {REPAIR}",
            path,
        )


def _one_channel(path: Path, samples_LC: np.ndarray, channel: int | None) -> np.ndarray:
    """One channel, or the mean of all; of channels that cancel each other, the first."""
    num_channels = samples_LC.shape[1]
    if channel is not None and not 0 <= channel < num_channels:
        raise InputError(
            "audio.channel", f"{path} has {num_channels} channels, channel {channel} is asked for; {REPAIR}", channel
        )
    if num_channels == 1:
        return samples_LC[:, 0]
    if channel is None and cancels(samples_LC):
        warnings.warn(f"{path}: its channels cancel each other when they are mixed; the first is read", stacklevel=2)
        channel = 0
    return samples_LC.mean(axis=1) if channel is None else samples_LC[:, channel]


def cancels(samples_LC: np.ndarray) -> bool:
    """True for channels in opposite phase, whose mean is next to nothing."""
    own = float(np.mean(np.square(samples_LC, dtype=np.float64)))
    mixed = float(np.mean(np.square(samples_LC.mean(axis=1), dtype=np.float64)))
    return mixed * samples_LC.shape[1] < 2 * CANCELLED * own  # of one that speaks among many silent ones: equal


def read_file(audio_file: Path) -> np.ndarray:
    """Waveform of a whole file, float32 (L,), 16 kHz, the mean of its channels.

    Raises:
        InputError: As `read_header` and `read_audio`.
    """
    info = read_header(audio_file)
    measured(audio_file, info)
    return read_audio(Utterance(audio_file.name, audio_file, 0.0, info.seconds, text="-", speaker="-"))


def _refuse_special(audio_file: Path) -> None:
    """Raise an InputError for a missing file, a folder, or a device or pipe, which may never end."""
    try:
        refuse_special(audio_file)
    except InputError as error:
        raise InputError(error.code, f"{error}; {REPAIR}", error.value) from error
    if not audio_file.exists():
        raise MissingInputError("file.missing", f"{audio_file} does not exist; {REPAIR}", audio_file)


def _refuse_bomb(audio_file: Path, num_samples: int, num_channels: int) -> None:
    if num_samples * num_channels > MAX_SAMPLES:
        raise InputError(
            "audio.too-large",
            f"{audio_file} says that it holds {num_samples:,} samples of {num_channels} channels, more than are decoded"
            f" at once ({MAX_SAMPLES:,}); cut it into files",
            audio_file,
        )


def resample(waveform_L: np.ndarray, sample_rate: int) -> np.ndarray:
    """The waveform at 16 kHz, float32; its length is ceil(L * 16000 / sample_rate).

    Polyphase filtering with scipy's Kaiser window (beta 5).
    """
    if sample_rate == SAMPLE_RATE:
        return np.ascontiguousarray(waveform_L, dtype=np.float32)
    from scipy.signal import resample_poly  # most corpora are at 16 kHz and never need it

    divisor = np.gcd(SAMPLE_RATE, sample_rate)
    resampled_L = resample_poly(waveform_L, SAMPLE_RATE // divisor, sample_rate // divisor)
    return np.asarray(resampled_L, dtype=np.float32)


def describe_fault(audio_file: Path, error: Exception) -> str:
    """Error text for an unreadable file, to complete a sentence."""
    if audio_file.stat().st_size == 0:
        return "is empty (0 bytes)"
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    if isinstance(error, TypeError):
        return f"has samples without a header; write it as wav (`sox -r RATE -e signed -b 16 -c 1 {audio_file.name}`)"
    if audio_file.suffix.lower() in OTHER_SUFFIXES:
        return f"is in a format that is not read; write it as flac (`ffmpeg -i {audio_file.name} new.flac`)"
    if reason.startswith("File does not exist"):  # libsndfile's words for an mp3 without a whole frame
        return "is cut off, or is no audio"
    return f"cannot be read as audio ({reason})"
