"""Speech synthesis by espeak-ng, bit for bit the same each time.

espeak-ng comes as a wheel (``espeakng-loader``, extra ``demo``): a shared library and its voices, no system
package. The library keeps state between utterances (the phase of its oscillators, two random generators), and no
call resets all of it. So each utterance loads the library anew in 3 ms, seeds it and unloads it: the speech
depends on text and voice only.
"""

import _ctypes
import ctypes
from math import gcd
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from moe_lightning.errors import InputError

SAMPLE_RATE = 16_000
COARSE_RATE = 50
"""Rates at multiples of this step in Hz have small ratios to each other, so resampling is fast."""
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, before espeak_Synth returns
_CHARACTERS_UTF8 = 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_SampleCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Voice(NamedTuple):
    """A speaker's voice: an accent's phonemes, a variant's vocal tract, and the speaker's own rate and pitch."""

    accent: str
    """A voice of espeak-ng: ``en-us``, ``en-gb-scotland``, ``fr`` (reads English as French) ..."""
    variant: str
    """A voice variant: ``f3``, ``m1``, ``Alex`` ..."""
    rate: int
    """Words per minute, 80 to 450; espeak-ng's default is 175."""
    pitch: int
    """0 to 99 around the variant's own range; 50 leaves it unchanged."""
    formants: int = 100
    """Percent of the variant's own: under 100 is a longer vocal tract. The pitch changes with it, the rate does not."""


def synthesise(text: str, voice: Voice) -> np.ndarray:
    """Speech at 16 kHz, mono, float32 in [-1, 1].

    Raises:
        InputError: espeak-ng is not installed, or it has no such voice.
    """
    library_file, data_dir = _espeak_files()
    library = ctypes.CDLL(library_file)
    try:
        samples, sample_rate = _speak(library, data_dir, text, voice)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)  # only this clears the state of its oscillators
    heard_rate = COARSE_RATE * round(voice.formants * sample_rate / (100 * COARSE_RATE))
    divisor = gcd(SAMPLE_RATE, heard_rate)
    waveform = resample_poly(samples / 32768.0, SAMPLE_RATE // divisor, heard_rate // divisor)
    return waveform.clip(-1, 1).astype(np.float32)


def _speak(library: ctypes.CDLL, data_dir: str, text: str, voice: Voice) -> tuple[np.ndarray, int]:
    chunks: list[bytes] = []

    @_SampleCallback
    def collect(samples, num_samples, events):  # type: ignore[no-untyped-def]
        if samples and num_samples > 0:
            chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_dir.encode(), 0)
    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    ctypes.CDLL(None).srand(1)  # breath noise comes from the C library's generator
    name = f"{voice.accent}+{voice.variant}"
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise InputError(
            "setting.choice", f"espeak-ng has no voice {name!r}; its voices are listed by `espeak-ng --voices`", name
        )
    library.espeak_SetParameter(_RATE, round(100 * voice.rate / voice.formants), 0)
    library.espeak_SetParameter(_PITCH, voice.pitch, 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARACTERS_UTF8, None, None)
    library.espeak_Synchronize()
    return np.frombuffer(b"".join(chunks), np.int16), sample_rate


def _espeak_files() -> tuple[str, str]:
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError(
            "package.missing",
            "the demo corpus is spoken by espeak-ng, which is not installed; run `pip install 'moe_lightning[demo]'`",
            "espeak-ng",
        ) from error
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
