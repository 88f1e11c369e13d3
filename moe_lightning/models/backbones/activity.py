"""Speech activity: the probability that a recording holds any speech.

Whisper writes "you" or "Thank you." for silence and noise, often with high confidence: its own test (no-speech
probability over 0.6 and mean log-probability under -1.0) lets silence pass and drops short words. So Silero VAD
(github.com/snakers4/silero-vad, MIT) runs first; measurements: docs/window.md.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.models.backbones.log_mel import SAMPLE_RATE

CHUNK = 512
"""Samples per probability, 32 ms."""
CONTEXT = 64
"""Samples before a chunk, read with it."""
SHORTEST = SAMPLE_RATE // 10
"""Samples; a shorter recording holds no word."""
ONSET = 7
"""Chunks. The network takes the sudden start of a hum for speech, and corrects itself by then."""
LEVEL = 0.1
"""Root mean square of the loudest quarter of a second after scaling: the network detects quiet speech badly."""
NEVER_SPEECH = 0.05
"""A recording with a lower probability is silent, whatever the model writes."""
HARDLY_SPEECH = 0.4
"""A recording with a lower probability is silent if the model agrees; whispers and noisy words also lie below it."""
_BLOCK = 100 * 60 * CHUNK
"""Samples of a long recording in one piece, 192 s."""
NO_SPEECH = 0.6
"""Whisper agrees above this no-speech probability. Radford et al. 2022, section 4.5."""


class SpeechActivity(nn.Module):
    """Silero VAD's network for 16 kHz, with the names of its weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTM(128, 128, batch_first=True)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, waveforms_BL: Tensor) -> Tensor:
        """Probability of speech in each chunk, (B, T)."""
        chunks_BTL = F.pad(waveforms_BL, (CONTEXT, -waveforms_BL.shape[1] % CHUNK)).unfold(1, CONTEXT + CHUNK, CHUNK)
        spectrum_NFT = self.stft_conv(F.pad(chunks_BTL.flatten(0, 1)[:, None], (0, CONTEXT), mode="reflect"))
        hidden_NDT = (spectrum_NFT[:, :129] ** 2 + spectrum_NFT[:, 129:] ** 2).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden_NDT = conv(hidden_NDT).relu()
        hidden_BTD, _ = self.lstm_cell(hidden_NDT[:, :, 0].unflatten(0, chunks_BTL.shape[:2]))
        return self.final_conv(hidden_BTD.relu().mT).sigmoid()[:, 0]


@torch.no_grad()
def speech_probs(waveforms_BL: Tensor, num_samples_B: Tensor) -> Tensor:
    """Probability of speech in each recording, float32: the level reached for a tenth of a second.

    Args:
        waveforms_BL: 16 kHz, zero-padded at the end.
    """
    device = waveforms_BL.device
    with torch.autocast(device.type, enabled=False):
        waveforms_BL = waveforms_BL.float()
        probs_BT = _network(str(device))(waveforms_BL * _gains(waveforms_BL)[:, None])
    num_chunks_B = (num_samples_B + CHUNK - 1).div(CHUNK, rounding_mode="floor")
    place_T = torch.arange(probs_BT.shape[1], device=device)
    probs_BT = probs_BT * (place_T < num_chunks_B[:, None])
    is_behind_BT = (place_T >= ONSET) | (num_chunks_B < 3 * ONSET)[:, None]
    speech_B, behind_B = _lasting(probs_BT), _lasting(probs_BT * is_behind_BT)
    at_onset_B = speech_B.clamp(max=(NEVER_SPEECH + HARDLY_SPEECH) / 2)  # in doubt, no more
    return torch.maximum(behind_B, at_onset_B) * (num_samples_B >= SHORTEST)


@torch.no_grad()
def speech_by_chunk(waveform_L: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Probability of speech in each 32 ms of a recording of any length, float32 (T,).

    Args:
        waveform_L: Float32, 16 kHz.
    """
    waveform_1L = torch.from_numpy(waveform_L)[None].to(device)
    gain = _gains(waveform_1L)
    blocks = [_network(device)(block_1L * gain)[0] for block_1L in waveform_1L.split(_BLOCK, dim=1)]
    return np.asarray(torch.cat(blocks).cpu())


def quietest(waveform_L: np.ndarray) -> int:
    """Place of the quietest tenth of a second: the sample in its middle."""
    tenth = SAMPLE_RATE // 10
    energy_T = np.square(waveform_L[: len(waveform_L) // tenth * tenth]).reshape(-1, tenth).sum(axis=1)
    return int(energy_T.argmin()) * tenth + tenth // 2


def _lasting(probs_BT: Tensor) -> Tensor:
    """Largest probability reached by three chunks."""
    return F.pad(probs_BT, (0, 3)).topk(3, dim=1).values[:, 2]


def is_silent(speech_B: Tensor, no_speech_B: Tensor | None = None) -> Tensor:
    """True where a recording holds no speech.

    Args:
        speech_B: From `speech_probs`.
        no_speech_B: The model's own no-speech probability, if it has one.
    """
    is_silent_B = speech_B < NEVER_SPEECH
    return is_silent_B if no_speech_B is None else is_silent_B | (is_doubtful(speech_B) & (no_speech_B > NO_SPEECH))


def is_doubtful(speech_B: Tensor) -> Tensor:
    """True where the model's no-speech probability is needed too."""
    return (speech_B >= NEVER_SPEECH) & (speech_B < HARDLY_SPEECH)


def _gains(waveforms_BL: Tensor) -> Tensor:
    """Factor that brings the loudest quarter of a second to `LEVEL`; 16-bit noise reaches a tenth of that at most."""
    power_BT = F.pad(waveforms_BL, (0, -waveforms_BL.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK)).square().mean(dim=2)
    loudest_B = power_BT.topk(min(8, power_BT.shape[1]), dim=1).values.mean(dim=1).sqrt()
    return LEVEL / loudest_B.clamp(min=1e-4)


@lru_cache(maxsize=4)
def _network(device: str) -> SpeechActivity:
    """The network from silero-vad's wheel, on a device. Importing the package would limit torch to one thread."""
    package = find_spec("silero_vad")
    assert package is not None, "silero-vad is a dependency"
    state = load_file(Path(str(package.origin)).parent / "data" / "silero_vad_16k.safetensors")
    network = SpeechActivity()
    network.load_state_dict({name + "_l0" * name.startswith("lstm"): value for name, value in state.items()})
    return network.requires_grad_(False).eval().to(device)
