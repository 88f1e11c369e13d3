"""A corpus that takes no download: tones of two kinds of speakers, with transcripts."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile


def write_tones(folder: Path, sizes: Mapping[str, int]) -> Path:
    """Write wav files and one manifest a split, four speakers each; every third file is stereo at 44.1 kHz."""
    rng = np.random.default_rng(0)
    for split, num_utterances in sizes.items():
        rows = [write_tone(folder, split, number, rng) for number in range(num_utterances)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_tone(folder: Path, split: str, number: int, rng: np.random.Generator) -> dict[str, str]:
    """Write one wav file and give its row of the manifest."""
    kind, rate = ("low", "high")[number % 2], (16_000, 44_100)[number % 3 == 0]
    times_L = np.arange(int(rng.uniform(0.3, 0.9) * rate)) / rate
    waveform_L = 0.2 * np.sin(2 * np.pi * (180 if kind == "low" else 1400) * rng.uniform(0.9, 1.1) * times_L)
    waveform_L += 0.02 * rng.normal(size=len(times_L))
    name = f"{split}_{number}"
    soundfile.write(folder / f"{name}.wav", waveform_L if rate == 16_000 else np.stack([waveform_L] * 2, 1), rate)
    return {
        "id": name,
        "audio_filepath": f"{name}.wav",
        "text": f"{kind} tone {'abcd'[number % 4]}",
        "speaker": f"{split}_speaker_{number % 4}",
        "accent": kind,
        "language": "en",
    }
