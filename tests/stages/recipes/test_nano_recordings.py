"""Going on with the nano backbone on recordings."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from moe_lightning.models.backbones.whisper import WhisperBackbone
from recipes.nano import blueprint
from recipes.nano.recordings import SPEEDS, hear, main
from recipes.nano.train import spelt


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six noises that are said to be words, and one that is not."""
    rng = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(["the red boat", "Où est la forêt ?", "two", "a cat", "straße", "seven seas", "..."]):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
        rows.append({"audio_filepath": f"{number}.wav", "text": text, "speaker": f"s{number}"})
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_recordings_are_heard_at_every_speed_and_those_without_a_word_are_not(manifest: Path) -> None:
    speech = hear([manifest], SPEEDS)
    assert len(speech.texts) == 6 * len(SPEEDS)
    slow, plain, fast = (speech.spectrogram(index).shape for index in range(3))
    assert slow[0] == plain[0] == fast[0] == 80
    assert slow[1] > plain[1] == 100 > fast[1]


def test_a_text_is_spelt_in_letters_without_accents() -> None:
    assert spelt("Où est la forêt, 3 straßen?") == "ou est la foret  straen"


def test_the_command_saves_a_model_to_which_all_languages_are_one(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    flags = ["--manifest", str(manifest), "--dev-manifest", str(manifest), "--output-dir", str(output)]
    monkeypatch.setattr("sys.argv", ["recordings", *flags, "--steps", "2", "--batch-size", "4"])
    main()
    before, after = WhisperBackbone.load("nano"), WhisperBackbone.load(str(output))
    weight_VD, old_VD = (one.model.get_input_embeddings().weight for one in (after, before))
    assert not torch.allclose(weight_VD, old_VD, atol=1e-3)
    ids = after.tokens.tokenizer.get_vocab()
    for language in blueprint.LANGUAGES:
        assert torch.equal(weight_VD[ids[f"<|{language}|>"]], weight_VD[ids["<|en|>"]])
