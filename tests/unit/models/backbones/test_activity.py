"""Speech activity: silence and noise against recordings of people."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from moe_lightning.models.backbones.activity import (
    CHUNK,
    HARDLY_SPEECH,
    NEVER_SPEECH,
    SHORTEST,
    SpeechActivity,
    is_silent,
    speech_probs,
)
from tests.recordings import CORPUS

RATE = 16_000
TIMES_L = np.arange(2 * RATE) / RATE


def noise(seconds: float, power: float = 0.0, seed: int = 0) -> np.ndarray:
    """Noise whose spectrum falls with the frequency to this power: 0 white, 0.5 pink, 1 brown; its deviation is 1."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=round(seconds * RATE)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** power
    waveform_L = np.fft.irfft(spectrum, round(seconds * RATE))
    return waveform_L / waveform_L.std()


def clicks(seconds: float) -> np.ndarray:
    waveform_L = 0.001 * noise(seconds)
    waveform_L[np.random.default_rng(1).integers(0, len(waveform_L), 8)] = 0.5
    return waveform_L


def hum(frequency: float) -> np.ndarray:
    return sum(np.sin(2 * np.pi * frequency * order * TIMES_L) / order for order in range(1, 9))


NO_SPEECH = {
    **{f"silence of {seconds} s": np.zeros(round(seconds * RATE)) for seconds in (0.2, 2, 10)},
    **{f"{name} noise, {level} dB": 10 ** (level / 20) * noise(2, power)
       for name, power in (("white", 0), ("pink", 0.5), ("brown", 1)) for level in (-70, -40, -15)},
    **{f"noise of {seconds} s": 0.1 * noise(seconds) for seconds in (0.12, 0.5, 10)},
    "hum of 50 Hz": 0.1 * hum(50),
    "hum of 60 Hz": 0.1 * hum(60),
    "a tone": 0.1 * np.sin(2 * np.pi * 1000 * TIMES_L),
    "clicks": clicks(2),
    "noise that comes and goes": 0.1 * noise(2) * (1 + np.sin(2 * np.pi * 4 * TIMES_L)),
}  # fmt: skip


def padded(waveforms: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    rows = [torch.from_numpy(np.asarray(waveform_L, dtype=np.float32)) for waveform_L in waveforms]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def recordings() -> list[np.ndarray]:
    """Of all domains; single digits, the shortest first, among them."""
    rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    digits = sorted((row for row in rows if row["kind"] == "digit_single"), key=lambda row: row["duration"])
    others = [row for row in rows if row["kind"] != "digit_single"]
    chosen = digits[:20] + digits[20::4] + others[::3]
    assert {row["domain"] for row in chosen} == {row["domain"] for row in rows}
    return [soundfile.read(CORPUS / row["audio_filepath"], dtype="float32")[0] for row in chosen]


def test_silence_and_noise_are_hardly_speech() -> None:
    found = dict(zip(NO_SPEECH, speech_probs(*padded(list(NO_SPEECH.values()))).tolist(), strict=True))
    assert {name: prob for name, prob in found.items() if prob >= HARDLY_SPEECH} == {}
    sure = {name for name in NO_SPEECH if "silence" in name or "noise" in name}
    assert {name: found[name] for name in sure if found[name] >= NEVER_SPEECH} == {}


@pytest.mark.parametrize("num_samples", [1, 100, SHORTEST - 1])
def test_what_is_too_short_for_a_word_is_no_speech(num_samples: int) -> None:
    assert speech_probs(*padded([0.1 * noise(1)[:num_samples]])).tolist() == [0.0]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not on this machine")
@pytest.mark.parametrize("gain", [1.0, 0.01], ids=["as they are", "40 dB quieter"])
def test_recordings_of_people_are_speech(gain: float) -> None:
    speech_B = speech_probs(*padded([gain * waveform_L for waveform_L in recordings()]))
    assert len(speech_B) >= 120
    assert speech_B.min() > HARDLY_SPEECH


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not on this machine")
def test_a_recording_is_heard_as_it_is_alone() -> None:
    waveforms = [recordings()[0], 0.01 * noise(3), recordings()[-1]]
    together_B = speech_probs(*padded(waveforms))
    for waveform_L, prob in zip(waveforms, together_B, strict=True):
        torch.testing.assert_close(speech_probs(*padded([waveform_L]))[0], prob, atol=1e-3, rtol=0)


def test_the_network_is_silero_vads_own() -> None:
    """With the weights of its TorchScript program, which reads chunk after chunk."""
    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    program = torch.jit.load(Path(str(package.origin)).parent / "data" / "silero_vad.jit")
    weights = program.state_dict()
    state = {"stft_conv.weight": weights["_model.stft.forward_basis_buffer"]}
    for kind in ("weight", "bias"):
        state |= {f"conv{n}.{kind}": weights[f"_model.encoder.{n - 1}.reparam_conv.{kind}"] for n in range(1, 5)}
        state |= {f"lstm_cell.{kind}_{of}_l0": weights[f"_model.decoder.rnn.{kind}_{of}"] for of in ("ih", "hh")}
        state[f"final_conv.{kind}"] = weights[f"_model.decoder.decoder.2.{kind}"]
    network = SpeechActivity()
    network.load_state_dict(state)
    waveform_1L = torch.from_numpy(0.1 * (hum(150) + 0.1 * noise(2))).float()[None]
    chunks = torch.nn.functional.pad(waveform_1L, (0, -waveform_1L.shape[1] % CHUNK)).split(CHUNK, dim=1)
    with torch.no_grad():
        expected = [float(program(chunk_1L, RATE)) for chunk_1L in chunks]
        torch.testing.assert_close(network(waveform_1L)[0], torch.tensor(expected), atol=1e-4, rtol=1e-3)


def test_listening_leaves_torch_its_threads() -> None:
    code = (
        "import torch; from moe_lightning.models.backbones.activity import speech_probs; torch.set_num_threads(3);"
        "speech_probs(torch.zeros(1, 4000), torch.tensor([4000])); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


def test_the_model_is_asked_only_where_speech_is_in_doubt() -> None:
    speech_B = torch.tensor([0.01, 0.2, 0.2, 0.9])
    assert is_silent(speech_B).tolist() == [True, False, False, False]
    assert is_silent(speech_B, torch.tensor([0.0, 0.9, 0.3, 0.9])).tolist() == [True, True, False, False]
