from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.probe import probe_entries
from moe_lightning.data.audio import read_audio, read_header, resample
from moe_lightning.data.utterance import Utterance
from tests.corpora import tone, write_audio
from tests.refusals import refuses


def whole(path: Path) -> Utterance:
    return Utterance("u", path, 0.0, read_header(path).seconds, "a", "s")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("sample_rate", "num_channels"), [(16_000, 1), (44_100, 2), (8_000, 1), (48_000, 2)])
def test_any_format_rate_and_channel_count_becomes_16_khz_mono(tmp_path, suffix, sample_rate, num_channels):
    path = write_audio(tmp_path / f"a.{suffix}", 1.0, sample_rate, num_channels)
    waveform_L = read_audio(whole(path))
    assert waveform_L.dtype == np.float32
    assert waveform_L.ndim == 1
    assert len(waveform_L) == pytest.approx(16_000, abs=16_000 * 0.15 if suffix == "mp3" else 1)
    middle = waveform_L[6000:10000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440 * 4000 / 16_000, abs=1)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([np.full(1600, 0.5), np.full(1600, -0.1)], axis=1), 16_000, "FLOAT")
    assert np.allclose(read_audio(whole(tmp_path / "a.wav")), 0.2)


def test_a_segment_is_the_same_stretch_of_the_whole_file(tmp_path):
    path = write_audio(tmp_path / "a.flac", 2.0)
    segment_L = read_audio(Utterance("u", path, 0.5, 0.25, "a", "s"))
    assert np.array_equal(segment_L, read_audio(whole(path))[8000:12000])


def test_resampling_keeps_a_tone_and_drops_what_16_khz_cannot_hold():
    kept_L = resample(tone(1.0, 44_100, 1000.0).astype(np.float32), 44_100)
    assert np.allclose(kept_L[1000:-1000], tone(1.0, 16_000, 1000.0)[1000:-1000], atol=2e-3)
    assert np.abs(resample(tone(1.0, 44_100, 11_000.0), 44_100)[1000:-1000]).max() < 5e-3


def test_a_file_that_cannot_be_read_is_named_with_its_fault(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio, whatever its name says")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 16_000)
    for name, header, samples in [
        ("none.wav", "file.missing", "file.missing"),
        ("empty.wav", "audio.undecodable", "audio.undecodable"),
        ("text.wav", "audio.undecodable", "audio.undecodable"),
        ("silent.wav", "audio.empty", "audio.span"),
    ]:
        with refuses(header, name):
            read_header(tmp_path / name)
        with refuses(samples, name):
            read_audio(Utterance("u", tmp_path / name, 0.0, 1.0, "a", "s"))


def test_samples_that_are_not_finite_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, np.nan, 0.2] * 400), 16_000, "FLOAT")
    with refuses("audio.not-finite", "a.wav"):
        read_audio(whole(tmp_path / "a.wav"))


def test_a_recording_that_was_cut_off_is_left_out_where_the_manifest_names_no_duration(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 3.0)
    path.write_bytes(path.read_bytes()[:48_000])
    entry = Entry("train", "a", path, "hello", "s", "a.jsonl, line 1")
    (fault,) = probe_entries([entry]).left_out
    assert fault.is_fault
    assert "is cut off: it holds 1.50 s, its header says 1.50 s more" in fault.reason
