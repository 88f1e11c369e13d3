"""Audio files -> 16 kHz mono waveforms."""

import os
from pathlib import Path

import numpy as np
import soundfile

from moe_lightning.data.utterance import AudioInfo, Utterance
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import refuse_special

SAMPLE_RATE = 16_000
"""In Hz, for every waveform after reading; Whisper and similar models expect it."""
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
MAX_SAMPLES = 2**29
"""Limit over all channels for one decoding: 2 GiB, 3 hours of mono at 48 kHz. A file of megabytes can hold years."""
_HEAD_BYTES = 4096
"""Start of a wav file, large enough for its header."""
_LENGTH_OF_A_PIPE = 2**31 - 2**16
"""Minimum length in bytes that sox and ffmpeg write if they cannot return to the header."""
_WAY_OUT = "repair or remove it (--skip-bad-audio leaves such recordings of a corpus out)"


def read_header(audio_file: Path) -> AudioInfo:
    """Sample rate, channels and length of a recording, without decoding if its format allows.

    Raises:
        InputError: The file is missing, empty, in a format unknown to libsndfile, or over `MAX_SAMPLE_RATE` or
            `MAX_CHANNELS`.
    """
    _refuse_special(audio_file)
    try:
        info = soundfile.info(str(audio_file))
    except (OSError, RuntimeError, soundfile.SoundFileError) as error:
        raise InputError(
            "audio.undecodable", f"{audio_file} {describe_fault(audio_file, error)}; {_WAY_OUT}", audio_file
        ) from error
    if info.frames <= 0 or info.samplerate <= 0:
        raise InputError("audio.empty", f"{audio_file} holds no samples; {_WAY_OUT}", audio_file)
    if info.samplerate > MAX_SAMPLE_RATE or info.channels > MAX_CHANNELS:
        raise InputError(
            "audio.too-large",
            f"{audio_file} says that it has {info.channels} channels at {info.samplerate} Hz, at most {MAX_CHANNELS} at"
            f" {MAX_SAMPLE_RATE} Hz are taken; {_WAY_OUT}",
            audio_file,
        )
    return AudioInfo(info.samplerate, info.channels, info.frames)


def seconds_cut_off(audio_file: Path) -> float:
    """Seconds by which a wav file is shorter than its header says; 0.0 for any other format.

    libsndfile silently accepts a truncated file. A header written to a pipe has no true length and is ignored.
    """
    with audio_file.open("rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(_HEAD_BYTES)
    place = head.find(b"data", 12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE" or place < 0 or len(head) < place + 8:
        return 0.0
    said = int.from_bytes(head[place + 4 : place + 8], "little")
    bytes_a_second = int.from_bytes(head[28:32], "little")
    is_known = 0 < said < _LENGTH_OF_A_PIPE and bytes_a_second > 0
    return max(0.0, (said - (size - place - 8)) / bytes_a_second) if is_known else 0.0


def read_audio(utterance: Utterance) -> np.ndarray:
    """Waveform of an utterance, float32 (L,), 16 kHz; its channel, or the mean of all.

    Raises:
        InputError: The file cannot be read, has no samples at the utterance's start, lacks its channel, has too many
            samples to decode, or a sample is not finite.
    """
    path = utterance.audio_file
    _refuse_special(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            sample_rate = file.samplerate
            if utterance.start * sample_rate >= file.frames:
                raise InputError("audio.span", f"{path} holds no samples at {utterance.start} s; {_WAY_OUT}", path)
            file.seek(round(utterance.start * sample_rate))
            num_samples = round(min(utterance.duration * sample_rate, file.frames))
            _refuse_bomb(path, num_samples, file.channels)
            samples_LC = file.read(num_samples, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, soundfile.SoundFileError) as error:
        raise InputError("audio.undecodable", f"{path} {describe_fault(path, error)}; {_WAY_OUT}", path) from error
    if not len(samples_LC):
        raise InputError("audio.span", f"{path} holds no samples at {utterance.start} s; {_WAY_OUT}", path)
    channel = 0 if samples_LC.shape[1] == 1 and utterance.channel is None else utterance.channel
    if channel is not None and not 0 <= channel < samples_LC.shape[1]:
        raise InputError(
            "audio.channel",
            f"{path} has {samples_LC.shape[1]} channels, channel {channel} is asked for; {_WAY_OUT}",
            channel,
        )
    waveform_L = samples_LC.mean(axis=1) if channel is None else samples_LC[:, channel]
    if not np.isfinite(waveform_L).all():
        raise InputError("audio.not-finite", f"{path} holds samples that are not finite; {_WAY_OUT}", path)
    return resample(waveform_L, sample_rate)


def read_file(audio_file: Path) -> np.ndarray:
    """Waveform of a whole file, float32 (L,), 16 kHz, the mean of its channels.

    Raises:
        InputError: As `read_header` and `read_audio`.
    """
    info = read_header(audio_file)
    return read_audio(Utterance(audio_file.name, audio_file, 0.0, info.seconds, text="-", speaker="-"))


def _refuse_special(audio_file: Path) -> None:
    """Raise an InputError for a device or a pipe, because it may never end; folders get their own message later."""
    try:
        refuse_special(audio_file)
    except InputError as error:
        if not os.path.isdir(audio_file):
            raise InputError(error.code, f"{error}; {_WAY_OUT}", error.value) from error


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
    if not audio_file.exists():
        return "does not exist"
    if audio_file.is_dir():
        return "is a folder, not a recording"
    if audio_file.stat().st_size == 0:
        return "is empty (0 bytes)"
    return f"cannot be read as audio ({str(error).rsplit(': ', 1)[-1].rstrip('.')})"
