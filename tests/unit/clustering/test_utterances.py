"""Fields, nuisance variables, and taking them out."""

import json

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LinearRegression, LogisticRegression

from moe_lightning.clustering.__main__ import main
from moe_lightning.clustering.nuisance import fit_removal, measure_waveform
from moe_lightning.data.manifest import write_manifest
from moe_lightning.data.soft_labels import HardLabels
from moe_lightning.data.utterance import Utterance

from .conftest import SPLIT_OF, blobs, write_store


def voice(pitch: float, seconds: float = 1.0, level: float = 0.1, noise: float = 0.0, rate: int = 16_000):
    """Harmonics of a pitch with a syllable's rise and fall, and pauses between."""
    times_L = np.arange(round(seconds * rate)) / rate
    harmonics = range(1, int(3500 / pitch))
    wave_L = sum(np.sin(2 * np.pi * pitch * number * times_L) / number for number in harmonics)
    syllables_L = np.clip(np.sin(2 * np.pi * 3 * times_L), 0, 1)
    return level * wave_L * syllables_L + noise * np.random.default_rng(0).normal(size=len(times_L))


@pytest.mark.parametrize("pitch", [80, 120, 220, 320])
def test_the_pitch_of_a_voice_is_measured(pitch):
    assert measure_waveform(voice(pitch, noise=0.001))["pitch"] == pytest.approx(pitch, rel=0.03)


def test_noise_and_silence_have_no_pitch():
    random = np.random.default_rng(0)
    assert np.isnan(measure_waveform(random.normal(size=16_000))["pitch"])
    assert np.isnan(measure_waveform(np.zeros(16_000))["pitch"])
    assert np.isnan(measure_waveform(np.zeros(16_000))["bandwidth"])


def test_more_noise_lowers_the_signal_to_noise_ratio():
    ratios = [measure_waveform(voice(120, noise=noise))["snr"] for noise in (0.0001, 0.001, 0.01, 0.1)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] - ratios[1] == pytest.approx(20, abs=3)


def test_loudness_is_in_decibels_of_full_scale():
    loud, soft = (measure_waveform(voice(120, level=level))["loudness"] for level in (0.1, 0.01))
    assert loud - soft == pytest.approx(20, abs=0.1)


def test_a_telephone_band_is_measured():
    from scipy.signal import butter, sosfilt

    noise_L = np.random.default_rng(0).normal(size=16_000)
    telephone_L = sosfilt(butter(10, 3400, fs=16_000, output="sos"), noise_L)
    assert measure_waveform(noise_L)["bandwidth"] > 7500
    assert measure_waveform(telephone_L)["bandwidth"] == pytest.approx(3400, abs=300)


def test_an_utterance_shorter_than_a_frame_is_measured():
    assert measure_waveform(voice(120, seconds=0.02))["duration"] == pytest.approx(0.02)


def test_after_removal_no_linear_probe_finds_the_variable():
    embeddings_ND, groups_N = blobs(400, 4)
    nuisance_N1 = np.random.default_rng(0).normal(size=(400, 1))
    rows_ND = embeddings_ND + nuisance_N1 * np.random.default_rng(1).normal(size=20) * 3
    rows_ND = rows_ND - rows_ND.mean(axis=0)
    left_ND = fit_removal(rows_ND, nuisance_N1).apply(rows_ND)
    assert LinearRegression().fit(rows_ND, nuisance_N1).score(rows_ND, nuisance_N1) > 0.9
    assert LinearRegression().fit(left_ND, nuisance_N1).score(left_ND, nuisance_N1) < 0.01
    assert LogisticRegression().fit(left_ND, groups_N).score(left_ND, groups_N) > 0.95


def test_a_constant_variable_removes_nothing():
    rows_ND = blobs(50, 2)[0]
    rows_ND = rows_ND - rows_ND.mean(axis=0)
    np.testing.assert_allclose(fit_removal(rows_ND, np.ones((50, 1))).apply(rows_ND), rows_ND)


@pytest.fixture
def run_dir(tmp_path):
    """A run whose two accents differ less than its short and long utterances do."""
    embeddings_ND, accents_N = blobs(100, 2, spread=0.2)
    durations_N = np.random.default_rng(0).uniform(0.2, 1.0, size=100)
    embeddings_ND += (30 * durations_N[:, None] * np.random.default_rng(3).normal(size=20)).astype(np.float32)
    run_dir = tmp_path / "run"
    write_store(run_dir / "embeddings" / "whisper_nano_embeddings", embeddings_ND)
    utterances = []
    for row in range(100):
        audio_file = tmp_path / f"{row}.wav"
        soundfile.write(audio_file, voice(100 + row, durations_N[row]), 16_000)
        accent = ("irish", "welsh")[accents_N[row]]
        seconds = round(float(durations_N[row]) * 16_000) / 16_000
        fields = {"accent": accent, "age": 20 + row % 50}
        utterances.append(Utterance(f"u{row:04d}", audio_file, 0.0, seconds, "hello", f"s{row % 7}", fields))
    for split in ("train", "dev", "test"):
        own = [utterance for row, utterance in enumerate(utterances) if SPLIT_OF[row % 5] == split]
        write_manifest(own, run_dir / "corpus" / f"{split}.jsonl.gz")
    return run_dir


def cluster(run_dir, *flags):
    store = run_dir / "embeddings" / "whisper_nano_embeddings"
    main(
        [
            "--embedding-dir",
            str(store),
            "--output-dir",
            str(run_dir / "clustered"),
            "--plot",
            "none",
            "--no-report",
            *flags,
        ]
    )


def accents_found(run_dir, algorithm) -> float:
    labels_N = HardLabels.load(run_dir / "clustered" / f"{algorithm}.json").labels_N
    is_welsh_N = np.arange(100) % 2
    return max((labels_N == is_welsh_N).mean(), (labels_N != is_welsh_N).mean())


def test_residualising_duration_finds_the_accents_under_it(run_dir):
    cluster(run_dir, "--algorithm", "kmeans", "--num-experts", "2")
    assert accents_found(run_dir, "kmeans") < 0.7
    cluster(run_dir, "--algorithm", "kmeans", "--num-experts", "2", "--residualise", "duration")
    assert accents_found(run_dir, "kmeans") > 0.95


def test_labels_of_a_field_come_from_the_manifests(run_dir):
    cluster(run_dir, "--algorithm", "label", "--label-field", "accent")
    assert accents_found(run_dir, "label") > 0.85  # of dev and test too, which are labelled by their neighbours


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--algorithm", "label", "--label-field", "dialect"], "the manifests have accent, age, speaker"),
        (["--residualise", "accent"], "of fields, only numbers will do"),
        (["--residualise", "duration,"], "--residualise takes names"),
        (["--residualise", "duration", "--manifest-dir", "nowhere"], "nowhere holds no manifest"),
    ],
)
def test_what_the_manifests_lack_is_named(run_dir, capsys, flags, words):
    with pytest.raises(SystemExit):
        cluster(run_dir, *flags)
    assert words in capsys.readouterr().err


def test_a_finished_clustering_labels_another_store(run_dir, tmp_path, capsys):
    cluster(run_dir, "--algorithm", "kmeans", "--num-experts", "2")
    store = run_dir / "embeddings" / "whisper_nano_embeddings"
    main(["predict", "--run-dir", str(run_dir), "--embedding-dir", str(store)])
    fitted = HardLabels.load(run_dir / "clustered" / "kmeans.json")
    predicted = HardLabels.load(run_dir / "clustered" / "predicted" / "kmeans.json")
    np.testing.assert_array_equal(predicted.labels_N, fitted.labels_N)


def test_embeddings_of_another_model_are_refused(run_dir, capsys):
    cluster(run_dir, "--algorithm", "kmeans", "--num-experts", "2")
    config_file = run_dir / "clustered" / "clusterer.json"
    store = run_dir / "embeddings" / "whisper_nano_embeddings"
    info = {"whisper_model": "v3", "pooling": "mean", "window": 0.0}
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"store": {**info, "whisper_model": "v2"}}))
    (store / "store.json").write_text(json.dumps(info))
    with pytest.raises(SystemExit):
        main(["predict", "--run-dir", str(run_dir), "--embedding-dir", str(store)])
    assert "whisper_model 'v3', the clustering was made on 'v2'" in capsys.readouterr().err
