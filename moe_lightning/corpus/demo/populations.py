"""Populations and speakers of the demo corpus.

A population is a way of speaking or a channel; the pipeline does not see it. Its speakers differ in voice
variant, length of the vocal tract, rate and pitch. Every population draws them from the same variants, so that
neither variant nor pitch reveals the population. Each split has its own variants, and the nano backbone was trained
on yet others.
"""

import random
from typing import NamedTuple

import numpy as np
from scipy.signal import butter, sosfilt

from moe_lightning.corpus.demo.espeak import SAMPLE_RATE, Voice

FEMALE = frozenset(("Annie", "aunty", "f1", "f2", "f4", "f5", "linda"))
"""Women among the variants in `SPLIT_VARIANTS`; the others are men."""

SPLIT_VARIANTS = {
    "train": ["Mario", "Michael", "Gene", "antonio", "m1", "m3", "quincy", "rob", "f1", "f4", "Annie"],
    "dev": ["Hugo", "m6", "max", "f5"],
    "test": ["Diogo", "Mike", "m4", "m7", "robert", "f2", "linda", "aunty"],
}
"""Variants of each split. Left out, by their noise and spectrum: unintelligible ones (zac, croak, Demonic, whisper,
klatt*, robosoft* ...), near copies of one another (iven*, steph*), and Alicia, because the nano backbone does not
understand her even in plain American.
"""

SPEAKERS_PER_VARIANT = 4
"""Speakers with the same variant and population differ in rate, pitch and vocal tract length."""


class Population(NamedTuple):
    """A group of speakers that a recogniser may serve better or worse than another."""

    name: str
    """Value of the manifest field ``accent``."""
    accent: str
    """Voice of espeak-ng."""
    share: float
    """Part of the corpus's utterances."""
    is_telephone: bool = False


POPULATIONS = (
    Population("american", "en-us", 0.28),  # the group that the nano backbone serves well
    Population("scottish", "en-gb-scotland", 0.12),
    Population("caribbean", "en-029", 0.12),
    Population("french-accent", "fr", 0.12),
    Population("german-accent", "de", 0.12),
    Population("italian-accent", "it", 0.12),
    Population("telephone", "en-us", 0.12, is_telephone=True),
)


class Speaker(NamedTuple):
    """One voice of one population, in one split only."""

    name: str
    population: Population
    voice: Voice

    @property
    def gender(self) -> str:
        return "female" if self.voice.variant in FEMALE else "male"


def split_speakers(split: str, seed: int) -> list[list[Speaker]]:
    """A split's speakers, one list per entry in `POPULATIONS`: `SPEAKERS_PER_VARIANT` for each variant."""
    speakers = []
    for population in POPULATIONS:
        rng = random.Random(f"{seed} {split} {population.name}")
        numbers = range(1, SPEAKERS_PER_VARIANT + 1)
        people = [_speaker(population, variant, number, rng) for number in numbers for variant in SPLIT_VARIANTS[split]]
        speakers.append(rng.sample(people, len(people)))
    return speakers


def _speaker(population: Population, variant: str, number: int, rng: random.Random) -> Speaker:
    voice = Voice(population.accent, variant, rng.randint(145, 185), rng.randint(35, 65), rng.randint(92, 108))
    return Speaker(f"{population.name}-{variant}-{number}", population, voice)


def through_telephone(waveform_L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Telephone channel: 300 to 3400 Hz, with white noise 20 to 30 dB below the speech."""
    band = butter(4, (300, 3400), btype="bandpass", fs=SAMPLE_RATE, output="sos")
    speech_L = sosfilt(band, waveform_L)
    noise_L = rng.standard_normal(len(waveform_L)) * np.sqrt(np.mean(speech_L**2))
    return (speech_L + noise_L * 10 ** (-rng.uniform(20, 30) / 20)).astype(np.float32)
