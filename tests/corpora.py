"""Small real corpora on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moe_lightning.data.utterance import Utterance
from tests.recordings import CORPUS


@pytest.fixture(scope="session")
def real_corpus() -> Path:
    """Folder of recorded speech beside the checkout."""
    if not (CORPUS / "train.jsonl").is_file():
        pytest.skip(f"no recorded speech at {CORPUS.name} beside the checkout")
    return CORPUS


def tone(seconds: float, sample_rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)


def write_audio(path: Path, seconds: float = 1.0, sample_rate: int = 16_000, num_channels: int = 1) -> Path:
    """A recording of a tone; its format follows from the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.tile(tone(seconds, sample_rate)[:, None], num_channels), sample_rate)
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def jsonl_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with one manifest a split; ``corpus(train={"ann": 3})`` has ann read three utterances."""

    def make(**splits: dict[str, int]) -> Path:
        for split, speakers in splits.items():
            rows = []
            for speaker, count in speakers.items():
                for number in range(count):
                    name = f"audio/{speaker}/{split}{number}.wav"
                    write_audio(tmp_path / name, seconds=0.2 + 0.1 * number)
                    rows.append({"audio_filepath": name, "text": f"word {number}", "speaker": speaker})
            write_rows(tmp_path / f"{split}.jsonl", rows)
        return tmp_path

    return make


def utterances_of(speakers: dict[str, int], **fields: str) -> list[Utterance]:
    """Utterances without audio, for what looks at no audio."""
    return [
        Utterance(
            f"{speaker}/{number}", Path(f"/{speaker}/{number}.wav"), 0.0, 1.0 + number, "a", speaker, dict(fields)
        )
        for speaker, count in speakers.items()
        for number in range(count)
    ]
