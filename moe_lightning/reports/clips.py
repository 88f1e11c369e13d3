"""Short recordings embedded in the page, so that it plays without other files."""

import base64
import io
from collections.abc import Sequence

import soundfile

from moe_lightning.data.audio import SAMPLE_RATE, read_audio
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError

MAX_SECONDS = 15.0
"""Per clip; longer recordings are cut."""
MAX_BYTES = 1_500_000
"""For all clips together, as base64 in the page."""


def audio_clips(utterances: Sequence[Utterance]) -> dict[str, str]:
    """``data:`` addresses of MP3 clips by utterance id, as many as fit; a missing recording is left out."""
    clips: dict[str, str] = {}
    num_bytes = 0
    for utterance in utterances:
        try:
            waveform_L = read_audio(utterance)[: int(MAX_SECONDS * SAMPLE_RATE)]
        except InputError:
            continue
        encoded = io.BytesIO()
        soundfile.write(encoded, waveform_L, SAMPLE_RATE, format="MP3")
        text = base64.b64encode(encoded.getvalue()).decode()
        if num_bytes + len(text) <= MAX_BYTES:
            num_bytes += len(text)
            clips[utterance.id] = f"data:audio/mpeg;base64,{text}"
    return clips
