"""Recordings with several channels, before they are mixed."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.channels import relation
from moe_lightning.corpus.prepare import PreparedCorpus, prepare_corpus
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.data.audio import cancels, read_audio, read_file
from moe_lightning.settings.corpus import CorpusSettings
from tests.refusals import refuses

RATE = 16_000


def voice(seed: int, spans: list[tuple[float, float]], seconds: float = 4.0) -> np.ndarray:
    """Noise in these spans of seconds, and next to nothing elsewhere."""
    rng = np.random.default_rng(seed)
    samples_L = 1e-5 * rng.standard_normal(round(seconds * RATE))
    for start, end in spans:
        place = slice(round(start * RATE), round(end * RATE))
        samples_L[place] = 0.1 * rng.standard_normal(place.stop - place.start)
    return samples_L


ONE = voice(0, [(0.0, 2.0)])
OTHER = voice(1, [(2.0, 4.0)])


@pytest.mark.parametrize(
    ("left_L", "right_L", "expected"),
    [
        (ONE, ONE, "alike"),
        (ONE, 0.3 * ONE + voice(2, []), "alike"),
        (ONE, -ONE, "cancelling"),
        (ONE, -0.9 * ONE, "cancelling"),
        (ONE, OTHER, "apart"),
        (ONE, 0.001 * OTHER, "apart"),
        (ONE, voice(2, []), "alike"),
        (ONE, np.zeros_like(ONE), "alike"),
        (voice(3, [(0, 4)]), voice(4, [(0, 4)]), "alike"),
    ],
)
def test_channels_are_alike_cancelling_or_apart(left_L: np.ndarray, right_L: np.ndarray, expected: str) -> None:
    assert relation(np.stack([left_L, right_L], axis=1), RATE) == expected


def stereo_corpus(root: Path, left_L: np.ndarray, right_L: np.ndarray, **fields: object) -> Path:
    root.mkdir()
    rows = []
    for split in ("train", "dev", "test"):
        soundfile.write(root / f"{split}.wav", np.stack([left_L, right_L], axis=1), RATE)
        rows = [{"audio_filepath": f"{split}.wav", "text": "a", "speaker": split, **fields}]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def prepared(root: Path, **settings: object) -> PreparedCorpus:
    return prepare_corpus(CorpusSettings(dataset_root=str(root), **settings), root / "audio")


def test_of_channels_that_cancel_each_other_the_first_is_read_and_told(tmp_path: Path) -> None:
    corpus = prepared(stereo_corpus(tmp_path / "c", ONE, -ONE))
    (utterance,) = corpus.splits["train"]
    assert utterance.channel == 0
    assert np.sqrt(np.mean(np.square(read_audio(utterance)))) == pytest.approx(np.sqrt(np.mean(ONE**2)), rel=0.01)
    assert any(text.startswith("3 recordings have two channels in opposite phase") for text in corpus.warnings)
    with pytest.warns(UserWarning, match="cancel each other"):
        assert np.abs(read_file(utterance.audio_file)).max() > 0.1


def test_two_people_on_two_channels_are_told_and_a_channel_can_be_chosen(tmp_path: Path) -> None:
    root = stereo_corpus(tmp_path / "c", ONE, OTHER)
    mixed, second = prepared(root), prepared(root, channel="1")
    assert any("different people on its channels" in text for text in mixed.warnings)
    assert not any("different people" in text for text in second.warnings)
    assert np.allclose(read_audio(second.splits["train"][0]), OTHER, atol=1e-3)
    assert not any("different people" in text for text in prepared(root, channel="mix").warnings)


def test_a_manifest_gives_each_utterance_its_channel(tmp_path: Path) -> None:
    corpus = prepared(stereo_corpus(tmp_path / "c", ONE, OTHER, channel=1))
    assert corpus.splits["train"][0].channel == 1
    assert "channel" not in corpus.splits["train"][0].fields
    for place, (said, number) in enumerate({"left": 0, "R": 1, "1.0": 1, 1.0: 1}.items()):
        named = prepared(stereo_corpus(tmp_path / str(place), ONE, OTHER, channel=said))
        assert named.splits["train"][0].channel == number
    kind = prepared(stereo_corpus(tmp_path / "d", ONE, ONE, channel="telephone"))
    assert kind.splits["train"][0].fields["channel"] == "telephone"


@pytest.mark.parametrize("channel", ["left", "-1", "1.5"])
def test_a_channel_that_is_none_is_refused(channel: str) -> None:
    with refuses("setting.choice", f"--channel {channel}"):
        CorpusSettings(channel=channel)


@pytest.mark.parametrize(("on_disk", "listed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_file_is_found_however_its_accents_are_written(on_disk: str, listed: str, tmp_path: Path) -> None:
    folder = tmp_path / unicodedata.normalize(on_disk, "Zoë")
    folder.mkdir()
    soundfile.write(folder / unicodedata.normalize(on_disk, "café.wav"), ONE, RATE)
    row = {"audio_filepath": unicodedata.normalize(listed, "Zoë/café.wav"), "text": "a", "speaker": "s"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    (entry,) = read_corpus(tmp_path)
    assert entry.audio_file.exists()


def test_one_channel_that_speaks_among_many_silent_ones_is_no_cancellation() -> None:
    samples_LC = np.random.default_rng(0).normal(0, 1e-4, (16_000, 24))
    samples_LC[:, 5] += 0.1 * np.sin(np.arange(16_000))
    assert not cancels(samples_LC)
    assert cancels(np.stack([samples_LC[:, 5], -samples_LC[:, 5]], axis=1))
