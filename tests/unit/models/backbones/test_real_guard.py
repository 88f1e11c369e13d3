"""The guard on real weights: silence has no text, people keep theirs, and real lengths end."""

from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from torch import Tensor

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.models.backbones.activity import speech_probs
from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.decoding import DecodeOptions, Hypotheses
from moe_lightning.models.backbones.loading import load_backbone
from tests.real_whisper import FOLDERS, NEEDS, Row, batches, recordings, waveforms

RATE = 16_000
TIMES_L = np.arange(2 * RATE) / RATE
RANDOM = np.random.default_rng(0)
NO_SPEECH = {
    "silence of 0.5 s": np.zeros(RATE // 2),
    "silence of 10 s": np.zeros(10 * RATE),
    "100 samples": 0.1 * RANDOM.normal(size=100),
    "quiet white noise": 0.001 * RANDOM.normal(size=2 * RATE),
    "loud white noise": 0.2 * RANDOM.normal(size=2 * RATE),
    "brown noise": 0.002 * RANDOM.normal(size=2 * RATE).cumsum(),
    "hum of 50 Hz": 0.1 * sum(np.sin(2 * np.pi * 50 * order * TIMES_L) / order for order in range(1, 9)),
    "hum of 60 Hz": 0.1 * sum(np.sin(2 * np.pi * 60 * order * TIMES_L) / order for order in range(1, 9)),
    "clicks": 0.5 * (RANDOM.random(2 * RATE) < 2e-4),
}

pytestmark = NEEDS


@pytest.fixture(scope="module", params=FOLDERS or [Path("none")], ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backbone(folder: str) -> SpeechBackbone:
    return load_backbone(folder).eval()


@torch.no_grad()
def decode(
    backbone: SpeechBackbone, waveforms_BL: Tensor, num_samples_B: Tensor, languages: list[str], guard: bool = True
) -> Hypotheses:
    frames = backbone.encode(backbone.features(waveforms_BL, num_samples_B))
    options = DecodeOptions(guard=guard, speech_B=speech_probs(waveforms_BL, num_samples_B))
    return backbone.decode(frames, languages, options=options)


def test_silence_and_noise_have_no_text(backbone: SpeechBackbone) -> None:
    rows = [torch.from_numpy(np.asarray(row, dtype=np.float32)) for row in NO_SPEECH.values()]
    waveforms_BL = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    found = decode(backbone, waveforms_BL, torch.tensor([len(row) for row in rows]), ["en"] * len(rows))
    texts = dict(zip(NO_SPEECH, found.texts, strict=True))
    assert {name: text for name, text in texts.items() if text} == {}
    assert all(note.is_silenced for note in found.notes)


def test_people_keep_the_text_that_they_have_without_the_guard(backbone: SpeechBackbone) -> None:
    """The shortest recordings, single digits of 0.2 s, and some of every language."""
    rows = sorted(recordings(backbone), key=lambda row: row["duration"])
    for batch in batches(rows[:8] + rows[8 :: max(1, len(rows) // 16)], 12):
        languages = [row["language"] for row in batch]
        guarded, exact = (decode(backbone, *waveforms(batch), languages, guard) for guard in (True, False))
        assert guarded.tokens == exact.tokens
        assert not any(note.is_silenced or note.has_looped for note in guarded.notes)


def test_over_real_lengths_sentences_end_and_loops_are_counted(folder: str) -> None:
    backbone = load_backbone(folder, "real").eval()
    rows = [row for row in recordings(backbone) if row["kind"] == "sentence" and row["language"] == "en"]
    batch: list[Row] = rows[:: max(1, len(rows) // 12)]
    found = decode(backbone, *waveforms(batch), [row["language"] for row in batch])
    assert sum(note.has_looped for note in found.notes) > 0
    normaliser = Normaliser()
    said, written = (
        [normaliser(text, "en") for text in texts] for texts in ([row["text"] for row in batch], found.texts)
    )
    assert jiwer.wer(said, written) < 0.6
