"""Corpora that somebody else made: one line that names the fault, whatever lies in them, and never a hang."""

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.__main__ import main as corpus
from moe_lightning.corpus.checking.command import check_corpus
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.data.audio import read_audio, read_file, read_header
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.system.json_files import read_json
from tests.corpora import write_audio, write_rows
from tests.refusals import refuses

pytestmark = pytest.mark.timeout(60)
ROW = {"text": "a", "speaker": "ann"}


def manifest(folder: Path, *audio: str, **more: Any) -> Path:
    """A corpus of rows that name these recordings."""
    write_rows(folder / "train.jsonl", [{**ROW, "audio_filepath": name, **more} for name in audio])
    return folder


# where recordings may lie


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A recording that is none of the corpus's."""
    return write_audio(tmp_path / "private" / "diary.wav")


def link(corpus_dir: Path, private: Path) -> str:
    (corpus_dir / "a.wav").symlink_to(private)
    return "a.wav"


def linked_folder(corpus_dir: Path, private: Path) -> str:
    (corpus_dir / "clips").symlink_to(private.parent)
    return "clips/diary.wav"


WAYS_OUT_OF_A_FOLDER: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda corpus_dir, private: str(private),
    "dots": lambda corpus_dir, private: "x/../../private/diary.wav",
    "link": link,
    "linked folder": linked_folder,
}


@pytest.mark.parametrize("way", WAYS_OUT_OF_A_FOLDER)
def test_a_recording_outside_of_the_corpus_is_taken_only_when_that_is_asked_for(
    way: str, tmp_path: Path, private: Path
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "x").mkdir()
    manifest(folder, WAYS_OUT_OF_A_FOLDER[way](folder, private))
    with refuses("corpus.outside-root"):
        read_corpus(folder)
    (entry,) = read_corpus(folder, allow_outside_root=True)
    assert entry.audio_file.samefile(private)


def test_every_layout_keeps_to_its_folder(tmp_path: Path, private: Path) -> None:
    guide = tmp_path / "guide" / "Train" / "ann"
    guide.mkdir(parents=True)
    record = {"Files": [{"Filename": "../../../private/diary.wav", "Prompt": {"Transcript": "a"}}]}
    (guide / "ann.json").write_text(json.dumps(record))
    voice = tmp_path / "voice"
    (voice / "clips").mkdir(parents=True)
    (voice / "train.tsv").write_text("path\tsentence\n../../private/diary.wav\ta\n")
    libri = tmp_path / "libri" / "train-clean" / "14" / "208"
    libri.mkdir(parents=True)
    (libri / "14-208.trans.txt").write_text("../../../../private/diary A\n")
    kaldi = tmp_path / "kaldi" / "train"
    kaldi.mkdir(parents=True)
    (kaldi / "wav.scp").write_text(f"a {private}\n")
    for name in ("guide", "voice", "libri", "kaldi"):
        with refuses("corpus.outside-root", "diary.wav"):
            read_corpus(tmp_path / name)
        assert len(read_corpus(tmp_path / name, allow_outside_root=True)) == 1


def test_links_within_a_corpus_and_in_the_hubs_cache_are_inside(tmp_path: Path) -> None:
    folder, blobs = tmp_path / "snapshots" / "0a1b", tmp_path / "blobs"
    write_audio(blobs / "beef.wav")
    write_audio(folder / "real" / "b.wav")
    (folder / "a.wav").symlink_to("../../blobs/beef.wav")
    (folder / "clips").symlink_to("real")
    assert len(read_corpus(manifest(folder, "a.wav", "clips/b.wav"))) == 2


def test_a_corpus_behind_a_link_is_that_corpus(tmp_path: Path) -> None:
    write_audio(tmp_path / "disk" / "a.wav")
    manifest(tmp_path / "disk", "a.wav")
    (tmp_path / "here").symlink_to("disk")
    assert len(read_corpus(tmp_path / "here")) == 1
    assert len(read_corpus(tmp_path / "here" / "train.jsonl")) == 1


# what is no file


@pytest.mark.parametrize("kind", ["device", "pipe", "loop", "null", "long"])
def test_what_is_no_regular_file_is_left_out_without_being_opened(kind: str, tmp_path: Path) -> None:
    names = {"device": "/dev/zero", "null": "a\0.wav", "long": "a" * 5000 + ".wav"}
    if kind == "pipe":
        os.mkfifo(tmp_path / "a.wav")
    if kind == "loop":
        (tmp_path / "a.wav").symlink_to("b.wav")
        (tmp_path / "b.wav").symlink_to("a.wav")
    manifest(tmp_path, names.get(kind, "a.wav"))
    expected = {"device": "is a device", "pipe": "is a pipe", "loop": "symbolic links", "null": "embedded null"}
    report = check_corpus(tmp_path, allow_outside_root=True)
    details = {finding.rule: finding.details[0] for finding in report.findings}
    assert expected.get(kind, "too long") in details["broken recording"]


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_a_manifest_that_is_a_device_or_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with refuses("corpus.unknown-form"):
        read_corpus(tmp_path)
    with refuses("file.malformed"):
        read_json(tmp_path / name, "the command")
    with refuses("file.missing"):
        read_manifest(tmp_path / name)


def test_folders_that_hold_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "Train" / "ann").symlink_to(tmp_path / "Train")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError):
        read_corpus(tmp_path)


# recordings that are not what they say


def wav_header(num_bytes: int, sample_rate: int = 16_000, num_channels: int = 1) -> bytes:
    rate = sample_rate * num_channels * 2
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", num_bytes + 36, b"WAVE", b"fmt ", 16, 1, num_channels, sample_rate,
                       rate % 2**32, num_channels * 2, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", num_bytes)


def test_a_header_of_two_gigabytes_on_a_tiny_file_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(2**31 - 2) + np.zeros(1600, np.int16).tobytes())
    header = read_header(tmp_path / "a.wav")
    assert header.num_samples == 1600
    assert len(read_file(tmp_path / "a.wav")) == 1600


@pytest.mark.parametrize(("rate", "channels"), [(2**31 - 1, 1), (16_000, 1000)])
def test_an_absurd_rate_or_number_of_channels_is_refused(rate: int, channels: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(2000 * channels, rate, channels) + bytes(2000 * channels))
    with refuses("audio.too-large", "a.wav"):
        read_header(tmp_path / "a.wav")


def flac_that_says(path: Path, num_samples: int) -> Path:
    """A second of silence whose header counts more."""
    soundfile.write(path, np.zeros(16_000), 16_000, format="FLAC")
    contents = bytearray(path.read_bytes())
    contents[21] = (contents[21] & 0xF0) | (num_samples >> 32)
    contents[22:26] = struct.pack(">I", num_samples % 2**32)
    path.write_bytes(contents)
    return path


def test_a_recording_that_would_decode_to_weeks_is_not_decoded(tmp_path: Path) -> None:
    path = flac_that_says(tmp_path / "a.flac", 2**36 - 1)
    with refuses("audio.too-large", "a.flac"):
        read_file(path)
    part = read_audio(Utterance("a", path, 0.0, 0.5, "a", "ann"))
    assert len(part) == 8000


def test_hours_of_silence_in_a_small_file_are_left_out_by_their_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(3 * 3600 * 8000, np.int16), 8000)
    assert (tmp_path / "a.flac").stat().st_size < 2_000_000
    report = check_corpus(manifest(tmp_path, "a.flac"))
    assert "too long" in [finding.rule for finding in report.findings]


def test_a_stretch_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    for start in (1e300, 1e9):
        with refuses("audio.span", "a.wav"):
            read_audio(Utterance("a", tmp_path / "a.wav", start, 1.0, "a", "ann"))
    with refuses("audio.channel", 7):
        read_audio(Utterance("a", tmp_path / "a.wav", 0.0, 1.0, "a", "ann", channel=7))


# texts


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_manifest_in_another_encoding_is_told_to_be_saved_as_utf8(encoding: str, tmp_path: Path) -> None:
    line = json.dumps({**ROW, "audio_filepath": "é.wav"}, ensure_ascii=False)
    (tmp_path / "train.jsonl").write_bytes(line.encode(encoding))
    with refuses("file.encoding", "train.jsonl, line 1"):
        read_corpus(tmp_path)


def test_other_text_files_in_another_encoding_are_refused_too(tmp_path: Path) -> None:
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    (kaldi / "wav.scp").write_bytes("a é.wav\n".encode("latin-1"))
    voice = tmp_path / "voice"
    (voice / "clips").mkdir(parents=True)
    (voice / "train.tsv").write_bytes("path\tsentence\na\té\n".encode("latin-1"))
    guide = tmp_path / "guide" / "Train" / "ann"
    guide.mkdir(parents=True)
    (guide / "ann.json").write_bytes('{"Files": [], "é": 1}'.encode("utf-16"))
    for name in ("kaldi", "voice", "guide"):
        with pytest.raises(InputError) as refused:
            read_corpus(tmp_path / name)
        assert refused.value.code == ("file.malformed" if name == "guide" else "file.encoding")
        assert "is not UTF-8" in str(refused.value)


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path: Path) -> None:
    kaldi = tmp_path / "kaldi" / "train"
    write_audio(kaldi / "a.wav")
    for name, line in (("wav.scp", "a a.wav\n"), ("text", "a hello\n")):
        (kaldi / name).write_text(line, encoding="utf-8-sig")
    (entry,) = read_corpus(tmp_path / "kaldi")
    assert (entry.id, entry.text) == ("a", "hello")


def test_control_characters_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[/red]"
    for number in range(12):
        write_audio(tmp_path / f"{number}.wav", 0.2 + number / 50)
    rows = [
        {"audio_filepath": f"{number}.wav", "text": f"a {evil}", "speaker": f"s{number}", evil: evil, "field": evil}
        for number in range(12)
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    corpus(["--dataset-root", str(tmp_path), "--run-dir", str(tmp_path / "run")])
    corpus(["check", str(tmp_path), "--output-dir", str(tmp_path / "report")])
    write_rows(tmp_path / "train.jsonl", [{**rows[0], "speaker": evil}])
    with pytest.raises(SystemExit):
        corpus(["--dataset-root", str(tmp_path), "--run-dir", str(tmp_path / "other")])
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\\x1b[2J" in printed.err
    (first, *_) = read_manifest(tmp_path / "run" / "corpus" / "train.jsonl.gz")
    assert first.fields["field"] == "\\x1b[2J\\x1b]0;owned\\x07[/red]"


# JSON


def test_json_that_is_nested_deeply_or_holds_no_numbers_is_refused_in_one_line(tmp_path: Path) -> None:
    deep = "[" * 100_000
    (tmp_path / "deep.json").write_text(deep)
    with refuses("file.malformed", "deep.json"):
        read_json(tmp_path / "deep.json", "the command")
    (tmp_path / "train.jsonl").write_text(json.dumps({**ROW, "audio_filepath": "a"})[:-1] + f', "x": {deep}')
    with refuses("corpus.bad-row", "train.jsonl, line 1"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e999", "9" * 400, "9" * 5000, "true", '"1"', "[1]"])
def test_a_duration_that_is_no_time_is_named(number: str, tmp_path: Path) -> None:
    row = json.dumps({**ROW, "audio_filepath": "a.wav", "duration": 1}).replace("1}", f"{number}}}")
    (tmp_path / "train.jsonl").write_text(row)
    with refuses("corpus.bad-row"):
        read_corpus(tmp_path)


def test_a_field_too_large_for_a_number_is_a_text(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    (tmp_path / "train.jsonl").write_text(json.dumps({**ROW, "audio_filepath": "a.wav", "age": 10**400}))
    (entry,) = read_corpus(tmp_path)
    assert entry.fields["age"] == "1" + "0" * 400


def test_a_million_rows_are_read_and_a_packed_flood_is_not(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(b" " * 2**20)
    assert (tmp_path / "train.jsonl.gz").stat().st_size < 2**20
    with refuses("file.too-large", "train.jsonl.gz"):
        read_manifest(tmp_path / "train.jsonl.gz")
    (tmp_path / "mapping.json").write_text(json.dumps([{"id": number} for number in range(1_000_000)]))
    assert len(read_json(tmp_path / "mapping.json", "the command")) == 1_000_000
