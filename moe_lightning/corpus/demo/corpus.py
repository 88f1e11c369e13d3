"""Build the demo corpus: synthesised once, cached in a folder, the same for the same seed."""

import json
import multiprocessing
import os
import random
import shutil
import tempfile
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from rich.progress import track

from moe_lightning.corpus.demo.espeak import SAMPLE_RATE, synthesise
from moe_lightning.corpus.demo.grammar import random_sentence
from moe_lightning.corpus.demo.populations import POPULATIONS, Speaker, split_speakers, through_telephone

VERSION = 3
"""Part of the folder's name; raised if the same seed would give other speech."""
LEVEL = 0.05
"""Root mean square of every recording, so that loudness reveals nothing about the speaker."""
NUM_PROCESSES = 2


class Reading(NamedTuple):
    """An utterance before synthesis."""

    id: str
    text: str
    speaker: Speaker


def demo_corpus(
    cache_dir: Path | None = None, seed: int = 0, num_train: int = 1800, num_dev: int = 210, num_test: int = 420
) -> Path:
    """The folder of the demo corpus, synthesised on the first call.

    It holds ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl`` (plain manifests: audio_filepath relative to the folder,
    text, duration, speaker, accent = the population, gender) and the recordings. No speaker, voice variant or
    sentence is in two splits.

    Args:
        cache_dir: Cache folder for corpora; None is ``$MOE_LIGHTNING_CACHE``, or ``~/.cache/moe_lightning``.
        num_train: Training utterances, shared out to the populations by `POPULATIONS`.

    Raises:
        InputError: espeak-ng is not installed.
    """
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    folder = cache_dir / f"demo-v{VERSION}-seed{seed}-{num_train}-{num_dev}-{num_test}"
    if folder.is_dir():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=cache_dir))
    try:
        _build(partial, plan_readings({"train": num_train, "dev": num_dev, "test": num_test}, seed))
        if not folder.is_dir():  # another process may have been faster; its corpus is the same
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def default_cache_dir() -> Path:
    """``$MOE_LIGHTNING_CACHE``, or ``~/.cache/moe_lightning``."""
    return Path(os.environ.get("MOE_LIGHTNING_CACHE") or Path.home() / ".cache" / "moe_lightning")


def plan_readings(sizes: dict[str, int], seed: int) -> dict[str, list[Reading]]:
    """Readings of each split; no sentence comes twice in the whole corpus."""
    rng = random.Random(f"{seed} sentences")
    used: set[str] = set()
    plan = {}
    for split, size in sizes.items():
        readings = []
        for count, speakers in zip(_shares(size), split_speakers(split, seed), strict=True):
            for number, speaker in zip(range(count), cycle(speakers), strict=False):
                text = _unused_sentence(rng, used)
                readings.append(Reading(f"{split}-{speaker.name}-{number:04d}", text, speaker))
        plan[split] = readings
    return plan


def _shares(size: int) -> list[int]:
    """Utterances of each population; the first one gets the rest from rounding."""
    counts = [int(size * population.share) for population in POPULATIONS]
    counts[0] += size - sum(counts)
    return counts


def _unused_sentence(rng: random.Random, used: set[str]) -> str:
    sentence = random_sentence(rng)
    while sentence in used:
        sentence = random_sentence(rng)
    used.add(sentence)
    return sentence


def _build(folder: Path, plan: dict[str, list[Reading]]) -> None:
    jobs = [(folder, reading) for readings in plan.values() for reading in readings]
    for reading in jobs:
        (folder / _audio_name(reading[1])).parent.mkdir(parents=True, exist_ok=True)
    # Fresh processes: after loading espeak-ng or torch, a forked process can hang.
    with multiprocessing.get_context("spawn").Pool(NUM_PROCESSES) as pool:
        spoken = pool.imap(_speak, jobs, chunksize=16)
        durations = list(track(spoken, description="Speaking the demo corpus", total=len(jobs), transient=True))
    duration_of = {reading.id: duration for (_, reading), duration in zip(jobs, durations, strict=True)}
    for split, readings in plan.items():
        lines = [json.dumps(_manifest_entry(reading, duration_of[reading.id])) for reading in readings]
        (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _speak(job: tuple[Path, Reading]) -> float:
    """Write one recording; returns its duration in seconds. Runs in a worker process."""
    folder, reading = job
    waveform_L = synthesise(reading.text, reading.speaker.voice)
    if reading.speaker.population.is_telephone:
        waveform_L = through_telephone(waveform_L, np.random.default_rng(list(reading.id.encode())))
    waveform_L *= LEVEL / np.sqrt(np.mean(waveform_L**2))
    soundfile.write(folder / _audio_name(reading), waveform_L.clip(-1, 1), SAMPLE_RATE, subtype="PCM_16")
    return len(waveform_L) / SAMPLE_RATE


def _audio_name(reading: Reading) -> str:
    return f"audio/{reading.speaker.name}/{reading.id}.flac"


def _manifest_entry(reading: Reading, duration: float) -> dict[str, str | float]:
    return {
        "id": reading.id,
        "audio_filepath": _audio_name(reading),
        "text": reading.text,
        "duration": round(duration, 4),
        "speaker": reading.speaker.name,
        "accent": reading.speaker.population.name,
        "gender": reading.speaker.gender,
    }
