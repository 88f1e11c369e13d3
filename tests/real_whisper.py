"""Real Whisper weights and recordings of people, where a machine has them.

``MOE_LIGHTNING_WHISPER`` names folders of real weights, joined by the system's path separator; an English-only one
is tested on the English recordings.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from moe_lightning.models.backbones.base import SpeechBackbone
from tests.recordings import CORPUS

FOLDERS = [Path(folder) for folder in os.environ.get("MOE_LIGHTNING_WHISPER", "").split(os.pathsep) if folder]
Row = dict[str, Any]

NEEDS = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDERS, reason="MOE_LIGHTNING_WHISPER names no folder of real Whisper weights"),
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not on this machine"),
    pytest.mark.timeout(3 * 3600),
]


def recordings(backbone: SpeechBackbone) -> list[Row]:
    """Test recordings in languages that the model writes, or a share of them."""
    rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    if not backbone.detects_languages:
        rows = [row for row in rows if row["language"] == "en"]
    step = max(1, round(1 / float(os.environ.get("MOE_LIGHTNING_SHARE", "1"))))
    return sorted(rows, key=lambda row: (row["language"], row["id"]))[::step]


def batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Neighbours of one language: transformers takes one language a call."""
    for language in dict.fromkeys(row["language"] for row in rows):
        own = [row for row in rows if row["language"] == language]
        yield from (own[start : start + size] for start in range(0, len(own), size))


def waveforms(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    read = [torch.from_numpy(soundfile.read(CORPUS / row["audio_filepath"], dtype="float32")[0]) for row in rows]
    lengths_B = torch.tensor([len(waveform_L) for waveform_L in read])
    return torch.nn.utils.rnn.pad_sequence(read, batch_first=True), lengths_B
