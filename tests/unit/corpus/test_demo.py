import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.demo import demo_corpus
from moe_lightning.corpus.demo.corpus import plan_readings
from moe_lightning.corpus.demo.espeak import Voice, synthesise
from moe_lightning.corpus.demo.populations import POPULATIONS, split_speakers
from tests.refusals import refuses

pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeak-ng, extra `demo`")

SIZES = {"num_train": 60, "num_dev": 30, "num_test": 30}
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_corpus(tmp_path_factory.mktemp("cache"), seed=3, **SIZES)


def read_manifest_lines(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path):
    again = demo_corpus(tmp_path, seed=3, **SIZES)
    files = sorted(file.relative_to(corpus) for file in corpus.rglob("*") if file.is_file())
    assert len(files) == sum(SIZES.values()) + len(SPLITS)
    for file in files:
        assert (again / file).read_bytes() == (corpus / file).read_bytes(), file


def test_another_seed_gives_other_sentences():
    texts = [{reading.text for reading in plan_readings({"train": 100}, seed)["train"]} for seed in (1, 2)]
    assert len(texts[0] & texts[1]) < 10


def test_no_speaker_no_voice_and_no_sentence_is_in_two_splits():
    plan = plan_readings({"train": 1800, "dev": 210, "test": 420}, seed=0)
    for trait in (
        lambda reading: reading.speaker.name,
        lambda reading: reading.speaker.voice.variant,
        lambda reading: reading.text,
        lambda reading: reading.id,
    ):
        seen = [{trait(reading) for reading in plan[split]} for split in SPLITS]
        assert not seen[0] & seen[1]
        assert not (seen[0] | seen[1]) & seen[2]


def test_every_population_has_several_speakers_in_every_split(corpus: Path):
    for split in SPLITS:
        speakers = defaultdict(set)
        for line in read_manifest_lines(corpus, split):
            speakers[line["accent"]].add(line["speaker"])
        assert set(speakers) == {population.name for population in POPULATIONS}
        assert min(len(names) for names in speakers.values()) >= 3


def test_the_manifest_tells_the_truth_about_the_recordings(corpus: Path):
    for split, size in zip(SPLITS, SIZES.values(), strict=True):
        lines = read_manifest_lines(corpus, split)
        assert len(lines) == size
        for line in lines:
            audio = soundfile.info(corpus / line["audio_filepath"])
            assert (audio.samplerate, audio.channels) == (16_000, 1)
            assert audio.duration == pytest.approx(line["duration"], abs=1e-3)
            assert 0.8 < line["duration"] < 6
            assert 4 <= len(line["text"].split()) <= 12
            assert line["gender"] in ("female", "male")


def test_a_second_call_does_no_work(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    made_at = (corpus / "train.jsonl").stat().st_mtime_ns
    monkeypatch.setenv("MOE_LIGHTNING_CACHE", str(corpus.parent))
    assert demo_corpus(seed=3, **SIZES) == corpus
    assert (corpus / "train.jsonl").stat().st_mtime_ns == made_at


def test_nothing_half_written_is_left(corpus: Path):
    assert [path.name for path in corpus.parent.iterdir()] == [corpus.name]


def test_speech_depends_on_text_and_voice_alone():
    voice = Voice("en-us", "f3", rate=160, pitch=50)
    first = synthesise("the red boat is near the harbour", voice)
    synthesise("something else was said", Voice("de", "m1", rate=200, pitch=70))
    assert (synthesise("the red boat is near the harbour", voice) == first).all()
    assert first.dtype == "float32"
    assert 1.0 < len(first) / 16_000 < 3.5


def test_a_shorter_vocal_tract_moves_the_spectrum_up_and_leaves_the_pace():
    long, short = (synthesise("the red boat is near the harbour", Voice("en-us", "f3", 160, 50, f)) for f in (92, 108))
    assert len(short) == pytest.approx(len(long), rel=0.05)
    centres = []
    for waveform in (long, short):
        power = np.abs(np.fft.rfft(waveform)) ** 2
        centres.append((power * np.arange(len(power))).sum() / power.sum() / len(waveform))
    assert centres[1] > 1.08 * centres[0]


def test_many_speakers_share_a_variant_and_no_two_are_the_same():
    speakers = [speaker for group in split_speakers("test", seed=0) for speaker in group]
    assert len(speakers) == len({speaker.name for speaker in speakers}) == 7 * 8 * 4
    assert len({speaker.voice for speaker in speakers}) == len(speakers)


def test_a_voice_that_espeak_has_not_is_named():
    with refuses("setting.choice", "en-atlantis+f3"):
        synthesise("hello", Voice("en-atlantis", "f3", rate=160, pitch=50))
