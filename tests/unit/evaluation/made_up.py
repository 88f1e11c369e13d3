"""Utterances and hypotheses that the tests make up."""

import random
from pathlib import Path

from moe_lightning.data.utterance import Utterance


def utterance(number: int, text: str, *, speaker: str = "", seconds: float = 1.0, **fields: str) -> Utterance:
    """One of two speakers, unless named."""
    name = speaker or f"s{number % 2}"
    return Utterance(f"u{number:03d}", Path(f"/{number}.wav"), 0.0, seconds, text, name, dict(fields))


def random_texts(seed: int, num: int, shortest: int = 1) -> list[str]:
    """Texts of one-letter words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices("abcdef", k=rng.randint(shortest, 9))) for _ in range(num)]


def split_of(num: int, num_speakers: int = 16) -> tuple[list[Utterance], dict[str, dict[str, str]]]:
    """Utterances of two accents, and a good and a bad system; accent ``a`` is served alike by both."""
    rng = random.Random(0)
    utterances, systems = [], {"good": {}, "bad": {}}  # type: list[Utterance], dict[str, dict[str, str]]
    for number, text in enumerate(random_texts(1, num, shortest=4)):
        speaker = number % num_speakers
        one = utterance(number, text, speaker=f"s{speaker}", seconds=1.0 + number % 7, accent="ab"[speaker % 2])
        words = text.split()
        wrong = [word if rng.random() < 0.5 or one.fields["accent"] == "a" else "x" for word in words]
        utterances.append(one)
        systems["good"][one.id], systems["bad"][one.id] = text, " ".join(wrong)
    return utterances, systems
