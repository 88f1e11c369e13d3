"""Training speech of the nano backbone: synthesised in varied voices, none from the demo corpus.

Mild accents and other voice variants than the demo corpus's keep the demo populations unseen. Half the sentences
follow the demo grammar; the others are words in random order, so that the decoder learns to recognise speech
instead of the grammar.
"""

import multiprocessing
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track

from moe_lightning.corpus.demo.corpus import LEVEL
from moe_lightning.corpus.demo.espeak import Voice, synthesise
from moe_lightning.corpus.demo.grammar import random_sentence, vocabulary
from moe_lightning.corpus.demo.populations import SPLIT_VARIANTS
from moe_lightning.models.backbones.log_mel import log_mel

NUM_MEL_BINS = 80
ACCENTS = {"en-us": 0.5, "en": 0.2, "en-gb-x-rp": 0.15, "en-us-nyc": 0.15}
"""Accents of the training speech and their shares; ``en`` is espeak-ng's British English."""
VARIANTS = (
    *("Alex", "Andrea", "Andy", "Denis", "Gene2", "Henrique", "Lee", "Nguyen", "anika", "belinda"),
    *("ed", "f3", "grandma", "gustave", "iven4", "john", "m2", "m5", "m8", "marcelo"),
    *("michel", "pablo", "paul", "pedro", "sandro", "steph", "victor"),
)
"""Voice variants of the training speech."""
WIDER_WORDS = (Path(__file__).parent / "wider_words.txt").read_text(encoding="utf-8").split()
"""Everyday words beside those of the demo grammar."""


class Utterance(NamedTuple):
    """A training utterance before synthesis."""

    text: str
    voice: Voice
    noise_dB: float
    """Level of the white noise over the speech's; -inf for none."""


class Speech(NamedTuple):
    """Concatenated spectrograms and the transcript of each."""

    values_MT: np.ndarray
    """Float16, the frames of all utterances."""
    ends_N: np.ndarray
    """End of each utterance's frames, int64."""
    texts: list[str]

    def spectrogram(self, index: int) -> np.ndarray:
        """The frames of one utterance, ``(M, T)``."""
        start = 0 if index == 0 else self.ends_N[index - 1]
        return self.values_MT[:, start : self.ends_N[index]]


def random_words(rng: random.Random) -> str:
    """Three to eight words in random order; half are from the demo grammar."""
    known = vocabulary()
    return " ".join(rng.choice(known if rng.random() < 0.5 else WIDER_WORDS) for _ in range(rng.randint(3, 8)))


def training_utterances(count: int, seed: int) -> list[Utterance]:
    """Varied voices: any combination of accent, variant, pace, pitch and faint noise."""
    rng = random.Random(f"{seed} nano training")
    accents = rng.choices(list(ACCENTS), list(ACCENTS.values()), k=count)
    return [
        Utterance(
            text=random_sentence(rng) if rng.random() < 0.5 else random_words(rng),
            voice=Voice(accent, rng.choice(VARIANTS), rng.randint(130, 205), rng.randint(25, 75)),
            noise_dB=-rng.uniform(30, 60) if rng.random() < 0.5 else -np.inf,
        )
        for accent in accents
    ]


def plain_utterances(count: int, seed: int) -> list[Utterance]:
    """American speech by voices absent from training, to evaluate the backbone."""
    rng = random.Random(f"{seed} nano judging")
    return [
        Utterance(
            text=random_sentence(rng),
            voice=Voice("en-us", rng.choice(SPLIT_VARIANTS["dev"]), rng.randint(145, 185), rng.randint(35, 65)),
            noise_dB=-np.inf,
        )
        for _ in range(count)
    ]


def speak(utterances: list[Utterance], cache_file: Path | None = None, num_processes: int = 1) -> Speech:
    """Spectrograms of the utterances, from ``cache_file`` (a .npz of an earlier call) if it exists."""
    texts = [utterance.text for utterance in utterances]
    if cache_file is not None and cache_file.exists():
        with np.load(cache_file, allow_pickle=False) as cached:
            return Speech(cached["values_MT"], cached["ends_N"], texts)
    if num_processes == 1:
        parts = [spectrogram(utterance) for utterance in utterances]
    else:
        with multiprocessing.get_context("spawn").Pool(num_processes, torch.set_num_threads, (1,)) as pool:
            spoken = pool.imap(spectrogram, utterances, chunksize=32)
            parts = list(track(spoken, description="Speaking", total=len(utterances), transient=True))
    speech = Speech(np.concatenate(parts, axis=1), np.cumsum([part.shape[1] for part in parts]), texts)
    if cache_file is not None:
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        partial = cache_file.with_suffix(".partial.npz")
        np.savez(partial, values_MT=speech.values_MT, ends_N=speech.ends_N)
        partial.replace(cache_file)  # a crash leaves no half-written speech
    return speech


def waveform(utterance: Utterance) -> np.ndarray:
    """The utterance at 16 kHz, float32, at the demo corpus's level."""
    waveform_L = synthesise(utterance.text, utterance.voice)
    noise = np.random.default_rng(list(utterance.text.encode())).standard_normal(len(waveform_L), np.float32)
    waveform_L *= LEVEL / np.sqrt(np.mean(waveform_L**2))
    return waveform_L + np.float32(LEVEL * 10 ** (utterance.noise_dB / 20)) * noise


def spectrogram(utterance: Utterance) -> np.ndarray:
    """``(M, T)``, float16."""
    waveform_1L = torch.from_numpy(waveform(utterance))[None]
    values_1MT = log_mel(waveform_1L, torch.tensor([waveform_1L.shape[1]]), NUM_MEL_BINS).values_BMT
    return values_1MT[0].numpy().astype(np.float16)
