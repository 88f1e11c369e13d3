"""What the bytes of a sound file say of its length, beside what libsndfile tells."""

import os
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.probe import LeftOut, probe_entry
from moe_lightning.data.audio import read_audio, read_header
from moe_lightning.data.containers import measure
from moe_lightning.data.utterance import AudioInfo, Utterance
from tests.corpora import write_audio
from tests.places import ROOT
from tests.refusals import refuses

RATE = 16_000


def noise(path: Path, seconds: float, **how: str) -> Path:
    samples_L = 0.1 * np.random.default_rng(round(10 * seconds)).standard_normal(round(RATE * seconds))
    soundfile.write(path, samples_L.astype(np.float32), RATE, **how)
    return path


def probed(path: Path, start: float = 0.0, duration: float | None = None) -> Utterance | LeftOut:
    return probe_entry(Entry("train", "u", path, "a", "s", "x.jsonl, line 1", start, duration))


def with_chunk(wav: bytes, name: bytes, contents: bytes) -> bytes:
    """A wav with one more chunk before its samples."""
    place = wav.index(b"data")
    chunk = name + struct.pack("<I", len(contents)) + contents + b"\0" * (len(contents) % 2)
    whole = wav[:place] + chunk + wav[place:]
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def test_a_wav_that_was_cut_off_says_so(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 3.0)
    info, contents = read_header(path), path.read_bytes()
    assert measure(path, info) == (3.0, 0.0, "")
    path.write_bytes(contents[: len(contents) // 2])
    assert measure(path, info).lost == pytest.approx(1.5, abs=0.01)
    place = contents.index(b"data") + 4
    path.write_bytes(contents[:place] + (2**31 - 1).to_bytes(4, "little") + contents[place + 4 :])
    assert measure(path, info).lost == 0, "a pipe knows no length"
    for broken in (
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff",
        b"",
        b"ID3",
        b"OggS",
        b"fLaC",
    ):
        path.write_bytes(broken)
        assert measure(path, info) == (3.0, 0.0, "")


@pytest.mark.parametrize("comment", [b"all of my data is here!", b"data\xff\xff\xff\x7f", b"odd data"])
def test_the_letters_data_in_a_comment_are_no_samples(comment: bytes, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 2.0)
    path.write_bytes(with_chunk(path.read_bytes(), b"LIST", b"INFOICMT" + struct.pack("<I", len(comment)) + comment))
    found = probed(path)
    assert isinstance(found, Utterance), found
    assert found.duration == 2.0


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg"])
@pytest.mark.parametrize(("first", "second"), [(2.0, 4.0), (4.0, 2.0)])
def test_files_that_were_joined_byte_by_byte_are_refused(
    suffix: str, first: float, second: float, tmp_path: Path
) -> None:
    files = [noise(tmp_path / f"{number}.{suffix}", seconds) for number, seconds in enumerate((first, second))]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(file.read_bytes() for file in files))
    assert "several recordings one after another" in getattr(probed(joined), "reason", "")
    assert all(isinstance(probed(file), Utterance) for file in files)


def test_a_tag_behind_an_mp3_is_no_recording(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.mp3", 3.0)
    path.write_bytes(path.read_bytes() + b"TAG" + b"\0" * 125)
    assert isinstance(probed(path), Utterance)
    path.write_bytes(
        b"ID3\x04\0\0\0\0\x02\x00" + b"\xff\xfb\x90\x00" * 64 + noise(tmp_path / "b.mp3", 3.0).read_bytes()
    )
    assert isinstance(probed(path), Utterance), "what is in a tag is none either"


@pytest.mark.parametrize("suffix", ["mp3", "flac"])
def test_a_compressed_file_that_was_cut_off_is_refused_before_it_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = noise(tmp_path / f"a.{suffix}", 6.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is cut off" in getattr(probed(path), "reason", "")


def test_a_stretch_of_an_mp3_lies_in_what_is_there(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.mp3", 6.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert isinstance(probed(path, 0.5, 1.0), Utterance)
    assert isinstance(probed(path, 3.5, 1.0), LeftOut)
    with refuses("audio.cut-off", "a.mp3"):
        read_audio(Utterance("u", path, 0.0, 6.0, "a", "s"))


def test_an_mp3_without_a_whole_frame_is_told_as_what_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = noise(tmp_path / "a.mp3", 2.0)
    path.write_bytes(path.read_bytes()[:60])
    assert "is cut off, or is no audio" in getattr(probed(path), "reason", "")
    assert capfd.readouterr().err == ""


def test_a_decoders_own_words_are_one_warning_with_the_files_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = noise(tmp_path / "a.mp3", 2.0)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.warns(UserWarning, match=r"a\.mp3: .*Xing"):
        read_header(path)
    assert capfd.readouterr().err == ""


def test_threads_that_read_mp3s_give_the_terminal_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = noise(tmp_path / "a.mp3", 2.0)
    path.write_bytes(path.read_bytes()[:-300])
    before = os.fstat(2)
    with pytest.warns(UserWarning, match="Xing"), ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: read_header(path), range(200)))) == 200
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
    assert capfd.readouterr().err == ""


def test_an_mp3_is_read_by_a_process_without_stderr(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.mp3", 1.0)
    script = "import os, sys; os.close(2); from pathlib import Path; from moe_lightning.data.audio import read_file;"
    script += " print(len(read_file(Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "16000\n")


@pytest.mark.parametrize(
    ("suffix", "form", "encoding"),
    [("wav", "WAV", "GSM610"), ("wav", "WAV", "G721_32"), ("au", "AU", "G723_24"), ("w64", "W64", "GSM610")],
)
def test_a_format_that_cannot_be_sought_is_read_from_any_place(
    suffix: str, form: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    samples_L = 0.3 * np.sin(2 * np.pi * 300 * np.arange(4 * 8000) / 8000)
    soundfile.write(path, samples_L, 8000, format=form, subtype=encoding)
    found = probed(path)
    assert isinstance(found, Utterance)
    whole_L = read_audio(found)
    part_L = read_audio(Utterance("u", path, 1.0, 2.0, "a", "s"))
    assert len(part_L) == 2 * RATE
    np.testing.assert_allclose(part_L[200:-200], whole_L[RATE + 200 : 3 * RATE - 200], atol=1e-3)


def test_a_header_whose_samples_cannot_be_read_is_refused_with_the_corpus(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.aiff", np.zeros(RATE), RATE, format="AIFF", subtype="DWVW_16")
    with refuses("audio.undecodable", "a.aiff"):
        read_header(tmp_path / "a.aiff")


def test_integers_that_were_saved_as_floats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 9000 * np.sin(np.arange(RATE)), RATE, subtype="FLOAT")
    with refuses("audio.out-of-range", "a.wav"):
        read_header(path)
    soundfile.write(path, 1.4 * np.sin(np.arange(RATE)), RATE, subtype="FLOAT")
    assert isinstance(probed(path), Utterance), "a little over full scale is usual"


@settings(max_examples=300)
@given(
    st.sampled_from([b"RIFF\0\0\0\0WAVE", b"OggS", b"fLaC\0\0\0\x22", b"ID3", b"\xff\xfb\x90\x64", b""]),
    st.binary(max_size=400),
)
def test_no_bytes_are_an_error_of_ours(start: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(start + rest)
        found = measure(path, AudioInfo(RATE, 1, 3 * RATE))
    assert 0 <= found.held <= 3.0
    assert found.lost >= 0


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.wav", {"format": "RF64"}),
        ("a.w64", {}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.sph", {"format": "NIST"}),
        ("a.ogg", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
def test_a_file_of_any_format_that_was_cut_off_is_refused(name: str, how: dict[str, str], tmp_path: Path) -> None:
    path = noise(tmp_path / name, 6.0, **how)
    assert isinstance(probed(path), Utterance)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert found.code == "audio.cut-off"


def test_a_wav_that_holds_more_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 4.0)
    whole = path.read_bytes()
    place = whole.index(b"data") + 4
    path.write_bytes(whole[:place] + struct.pack("<I", RATE * 2) + whole[place + 4 :])
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert "holds 3.00 s more behind the end that its header gives" in found.reason
    path.write_bytes(whole + bytes(100))
    assert isinstance(probed(path), Utterance), "padding is no audio"
    path.write_bytes(whole + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert isinstance(probed(path), Utterance), "a chunk is no audio"


def test_a_wav_that_was_never_closed_says_so(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav", 4.0)
    whole = path.read_bytes()
    place = whole.index(b"data") + 4
    path.write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert "its header was never closed" in found.reason


def test_an_mp3_of_variable_bitrate_without_its_tag_is_not_read_in_part(tmp_path: Path) -> None:
    """Decoders reckon its length from the first frame: with a quiet beginning they promise too much."""
    rng = np.random.default_rng(0)
    for quiet in (0, 1):
        parts = [0.3 * rng.standard_normal(3 * 48_000), np.zeros(3 * 48_000)]
        path = tmp_path / f"{quiet}.mp3"
        samples = np.concatenate(parts[::-1] if quiet else parts)
        soundfile.write(path, samples, 48_000, format="MP3", bitrate_mode="VARIABLE")
        assert isinstance(probed(path), Utterance)
        whole = path.read_bytes()
        first = whole.index(b"Xing") - 21
        path.write_bytes(whole[first + 384 :])
        found = probed(path)
        assert isinstance(found, LeftOut)
        assert (found.code, "variable bitrate" in found.reason) == ("audio.joined", True)


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("a.raw", bytes(4000), "samples without a header"),
        ("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(1000), "ffmpeg -i a.m4a new.flac"),
        ("a.webm", b"\x1aE\xdf\xa3" + bytes(1000), "ffmpeg -i a.webm new.flac"),
    ],
)
def test_other_formats_are_refused_with_a_way_out(name: str, contents: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert words in found.reason


def test_a_flac_without_a_length_is_refused(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.flac", 3.0)
    contents = bytearray(path.read_bytes())
    contents[21] &= 0xF0
    contents[22:26] = bytes(4)
    path.write_bytes(contents)
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert "has no length in its header" in found.reason


def test_two_flacs_of_one_length_are_not_taken_for_the_first(tmp_path: Path) -> None:
    """The second begins far before the end, and its last frame has the number of the first one's."""
    path = noise(tmp_path / "a.flac", 20.0)
    assert isinstance(probed(path), Utterance)
    path.write_bytes(2 * path.read_bytes())
    found = probed(path)
    assert isinstance(found, LeftOut)
    assert found.code == "audio.joined"
