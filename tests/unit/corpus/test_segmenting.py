"""Recordings over 30 s become segments with the words that are said in them."""

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.__main__ import main
from moe_lightning.corpus.demo import demo_corpus
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.segmenting import pauses
from moe_lightning.corpus.segmenting.likelihood import Scores, Share, likeliest_shares
from moe_lightning.corpus.segmenting.pauses import LONGEST, pieces_of
from moe_lightning.corpus.segmenting.recording import segment_recording
from moe_lightning.corpus.segmenting.transcript import Borders, likely_borders, most_unmatched, words_of
from moe_lightning.data.audio import SAMPLE_RATE, read_file
from moe_lightning.data.manifest import read_manifest
from moe_lightning.models.backbones.whisper import WhisperBackbone
from tests.corpora import write_rows
from tests.real_whisper import FOLDERS, NEEDS
from tests.recordings import CORPUS
from tests.refusals import refuses

Said = list[tuple[float, float, str]]
"""Beginning, end and text of the sentences in a recording."""


def joined(waveforms: list[np.ndarray], texts: list[str], gaps: list[float]) -> tuple[np.ndarray, Said]:
    """One recording of sentences, with seconds of silence after each."""
    said, place, parts = [], 0.0, []
    for waveform_L, text, gap in zip(waveforms, texts, gaps, strict=True):
        parts += [waveform_L, np.zeros(round(gap * SAMPLE_RATE), np.float32)]
        said.append((place, place + len(waveform_L) / SAMPLE_RATE, text))
        place += sum(map(len, parts[-2:])) / SAMPLE_RATE
    return np.concatenate(parts), said


def said_between(said: Said, start: float, end: float) -> str:
    return " ".join(text for first, last, text in said if text and start <= (first + last) / 2 < end)


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, Said]:
    """A minute of the demo's first population, which nano writes best."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeak-ng, extra `demo`")
    entries = [one for one in read_corpus(demo_corpus(seed=0), "auto", Path("unused")) if one.split == "train"]
    accent = entries[0].fields["accent"]
    entries = [one for one in entries if one.fields["accent"] == accent][:16]
    waveforms = [read_file(one.audio_file) for one in entries]
    return joined(waveforms, [one.text for one in entries], [0.8] * len(entries))


def test_pieces_end_in_pauses_and_hold_all_speech(spoken: tuple[np.ndarray, Said]) -> None:
    waveform_L, said = spoken
    found = pieces_of(waveform_L)
    assert len(found) > 1
    assert all(0 < one.end - one.start <= LONGEST for one in found)
    assert all(one.end <= two.start for one, two in pairwise(found))
    for first, last, _ in said:
        assert any(one.start <= first + 0.2 and last - 0.5 <= one.end for one in found)


def test_silence_has_no_pieces_and_speech_without_a_pause_is_cut_all_the_same(
    spoken: tuple[np.ndarray, Said],
) -> None:
    assert pieces_of(np.zeros(40 * SAMPLE_RATE, np.float32)) == []
    waveform_L, said = spoken
    parts = [waveform_L[round(first * SAMPLE_RATE) : round((last - 0.3) * SAMPLE_RATE)] for first, last, _ in said]
    found = pieces_of(np.tile(np.concatenate(parts), 2))
    assert all(one.end - one.start <= LONGEST for one in found)
    assert sum(one.end - one.start for one in found) > 50


def test_each_piece_gets_the_words_that_are_said_in_it(
    spoken: tuple[np.ndarray, Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model reads sentences one by one, so pieces are that short here."""
    monkeypatch.setattr(pauses, "LONGEST", 4.0)
    monkeypatch.setattr(pauses, "WANTED", 1.0)
    waveform_L, said = spoken
    text = " ".join(text for *_, text in said)
    found = segment_recording(WhisperBackbone.load("nano").eval(), waveform_L, text, "en")
    expected = [said_between(said, one.start, one.start + one.duration) for one in found.segments]
    exact = [one.text == text for one, text in zip(found.segments, expected, strict=True)]
    assert len(exact) >= 8
    assert sum(exact) >= 0.75 * len(exact)


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("Good  morning.", "en", ["Good", "morning."]),
        ("今天，很 iOS", "zh", ["今", "天，", "很", "i", "O", "S"]),
        ("นี่ดี", "th", ["นี่", "ดี"]),
        ("", "en", []),
    ],
)
def test_words_are_what_spaces_separate_or_characters_with_their_marks(
    text: str, language: str, words: list[str]
) -> None:
    assert [text[word.start : word.end] for word in words_of(text, language)] == words


def test_borders_lie_around_what_was_heard_even_if_badly() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    words = words_of(text, "en")
    first, second = likely_borders(text, words, ["wan two free for fife six", "eleven twelf thurteen fourteen"])
    assert 0 in first.starts
    assert 6 in first.ends
    assert 10 in second.starts, "the words between were not heard at all"
    assert 14 in second.ends
    (whole,) = likely_borders(text, words, [""])
    assert {0, 14} <= set(whole.starts)


def test_the_likeliest_division_keeps_all_words_unless_they_cost_much() -> None:
    def scores(*shares: Share) -> Scores:
        borders = Borders(sorted({one.first for one in shares}), sorted({one.behind for one in shares}))
        places = {(borders.starts.index(one.first), borders.ends.index(one.behind)): one for one in shares}
        return Scores(borders, places)

    better_whole = [scores(Share(0, 3, 10, 3), Share(0, 2, 11, 2)), scores(Share(2, 5, 9, 3), Share(3, 5, 9, 2))]
    assert [(one.first, one.behind) for one in likeliest_shares(better_whole, 5)] == [(0, 2), (2, 5)]
    no_words = [scores(Share(0, 2, 10, 2)), scores(Share(0, 2, -40, 2)), scores(Share(2, 4, 10, 2))]
    assert [(one.first, one.behind) for one in likeliest_shares(no_words, 4)] == [(0, 2), (2, 2), (2, 4)]
    dropped = [scores(Share(0, 2, 10, 2), Share(0, 3, -5, 3)), scores(Share(3, 5, 10, 2), Share(2, 5, -5, 3))]
    assert [(one.first, one.behind) for one in likeliest_shares(dropped, 5)] == [(0, 2), (3, 5)]


def test_a_sentence_too_much_counts_and_bad_spelling_does_not() -> None:
    assert most_unmatched("goodmorningall", "gutmornninkall") < 3
    assert most_unmatched("goodmorningall", "goodmorningthisisnotinthetextall") == 18
    assert most_unmatched("goodmorningthisisnotheardall", "goodmorningall") == 0


def long_corpus(folder: Path, seconds: float = 70.0) -> Path:
    """Four speakers, each with a recording of noise bursts that the speech activity takes or leaves."""
    rng = np.random.default_rng(0)
    rows = []
    for number, speaker in enumerate(("ann", "bob", "eve", "joe")):
        for kind, length in (("long", seconds), ("short", 2.0)):
            file = folder / f"{speaker}-{kind}.wav"
            soundfile.write(file, rng.normal(0, 0.1, round(length * SAMPLE_RATE)), SAMPLE_RATE)
            split = ("train", "train", "dev", "test")[number]
            rows.append(
                {"audio_filepath": file.name, "text": "a b c", "speaker": speaker, "split": split, "id": file.stem}
            )
    write_rows(folder / "all.jsonl", rows)
    return folder


def spoken_corpus(folder: Path, spoken: tuple[np.ndarray, Said]) -> Path:
    folder = long_corpus(folder)
    waveform_L, said = spoken
    soundfile.write(folder / "ann-long.wav", waveform_L, SAMPLE_RATE)
    rows = [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()]
    rows[0]["text"] = " ".join(text for *_, text in said)
    write_rows(folder / "all.jsonl", rows)
    return folder


def test_import_cuts_long_recordings_and_goes_on_where_it_was_stopped(
    spoken: tuple[np.ndarray, Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pauses, "LONGEST", 4.0)
    monkeypatch.setattr(pauses, "WANTED", 1.0)
    (tmp_path / "corpus").mkdir()
    words = ["import", "--dataset-root", str(spoken_corpus(tmp_path / "corpus", spoken)), "--segment", "nano"]
    main([*words, "--output-dir", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "stretches that no text fits" in printed
    found = [one for one in read_manifest(tmp_path / "out" / "train.jsonl.gz") if one.speaker == "ann"]
    pieces = [one for one in found if one.id != "ann-short"]
    assert pieces[0].id == "ann-long-0000"
    assert len(pieces) >= 8
    assert all(one.audio_file.name == "ann-long.wav" and one.duration <= 4 for one in pieces)
    whole = [json.loads((tmp_path / "corpus" / "all.jsonl").read_text().splitlines()[0])["text"]]
    assert all(one.text in whole[0] for one in pieces)
    left_out = json.loads((tmp_path / "out" / "left_out.json").read_text())
    assert {one["code"] for one in left_out} == {"audio.unaligned"}
    assert all(not one["is_fault"] and " s: " in one["reason"] for one in left_out)

    monkeypatch.setattr("moe_lightning.corpus.segmenting.corpus.segment_recording", None)  # would be called again
    main([*words, "--output-dir", str(tmp_path / "out")])
    assert [one.id for one in read_manifest(tmp_path / "out" / "train.jsonl.gz") if one.speaker == "ann"] == [
        one.id for one in found
    ]


def test_without_the_flag_long_recordings_are_left_out_and_the_flag_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").mkdir()
    root = long_corpus(tmp_path / "corpus", 31.0)
    main(["import", "--dataset-root", str(root), "--output-dir", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "left out: 4 over 30 s" in printed
    assert "--segment base cuts recordings over 30 s" in printed


def test_without_transcripts_long_recordings_are_cut_at_pauses_alone(
    spoken: tuple[np.ndarray, Said], tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    root = spoken_corpus(tmp_path / "corpus", spoken)
    rows = [json.loads(line) | {"text": ""} for line in (root / "all.jsonl").read_text().splitlines()]
    write_rows(root / "all.jsonl", rows)
    flags = ["--no-transcripts", "--segment", "nano", "--output-dir", str(tmp_path / "out")]
    main(["import", "--dataset-root", str(root), *flags])
    found = [one for one in read_manifest(tmp_path / "out" / "train.jsonl.gz") if one.id.startswith("ann-long-")]
    assert len(found) == len(pieces_of(spoken[0]))


def test_a_sign_that_cannot_be_written_may_stand_anywhere(
    spoken: tuple[np.ndarray, Said], tmp_path: Path, tiny_whisper: Path
) -> None:
    """A hyphen alone is left out of Whisper's labels: a piece may begin with it."""
    config = json.loads((tiny_whisper / "generation_config.json").read_text())
    folder = Path(shutil.copytree(tiny_whisper, tmp_path / "model"))
    tokens = WhisperBackbone.load(str(folder)).tokens.token_ends("-")[0]
    (folder / "generation_config.json").write_text(json.dumps({**config, "suppress_tokens": tokens}))
    backbone = WhisperBackbone.load(str(folder)).eval()
    assert backbone.left_out_of("a - b") == "-"
    waveform_L, said = spoken
    segment_recording(backbone, waveform_L, " - ".join(["", *(text for *_, text in said), ""]), "en")


def test_only_a_whisper_aligns(tmp_path: Path, tiny_ctc: Path) -> None:
    from moe_lightning.corpus.segmenting.corpus import _whisper

    with refuses("setting.conflict"):
        _whisper(str(tiny_ctc))


class TestRealRecordings:
    """A recording of 40 sentences by as many people, with pauses of up to 1.5 s, or none."""

    pytestmark = NEEDS

    @pytest.fixture(scope="class")
    def backbone(self) -> WhisperBackbone:
        return WhisperBackbone.load(str(FOLDERS[0])).eval()

    def recording(self, seed: int, missing: range = range(0)) -> tuple[np.ndarray, Said]:
        lines = (CORPUS / "sentences_en_train.jsonl").read_text().splitlines()
        rng = random.Random(seed)
        rows = [json.loads(line) for line in rng.sample(lines, 40)]
        texts = ["" if number in missing else row["text"] for number, row in enumerate(rows)]
        gaps = [rng.choice([0.0, 0.15, 0.3, 0.6, 1.5]) for _ in rows]
        return joined([read_file(CORPUS / row["audio_filepath"]) for row in rows], texts, gaps)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_whole_transcript(self, backbone: WhisperBackbone, seed: int) -> None:
        waveform_L, said = self.recording(seed)
        found = segment_recording(backbone, waveform_L, " ".join(text for *_, text in said), "en")
        assert sum(one.duration for one in found.segments) > 0.8 * said[-1][1]
        for one in found.segments:
            expected = said_between(said, one.start, one.start + one.duration).split()
            assert len(set(expected) ^ set(one.text.split())) <= 1

    def test_speech_that_the_transcript_lacks_is_left_out(self, backbone: WhisperBackbone) -> None:
        waveform_L, said = self.recording(2, missing=range(10, 14))
        found = segment_recording(backbone, waveform_L, " ".join(text for *_, text in said if text), "en")
        first, last = said[10][0], said[13][1]
        for one in found.segments:
            assert min(one.start + one.duration, last) - max(one.start, first) < 3
        assert any(one.start <= first + 1 for one in found.unaligned)

    def test_sentences_that_nobody_says_are_left_out(self, backbone: WhisperBackbone) -> None:
        waveform_L, said = self.recording(3)
        unsaid = "the children of the village had never seen such a large and colourful ship before"
        texts = [text for *_, text in said]
        text = " ".join([*texts[:12], unsaid, *texts[12:]])
        found = segment_recording(backbone, waveform_L, text, "en")
        assert not [one.text for one in found.segments if "colourful ship" in one.text]
        assert sum(one.duration for one in found.segments) > 0.6 * said[-1][1]
