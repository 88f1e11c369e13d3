"""Transcripts of a split by the bare backbone and by the mixture, and what they cost."""

import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from moe_lightning.batch import SpeechBatch
from moe_lightning.corpus import SAMPLE_RATE
from moe_lightning.corpus.loader import FixedLoader
from moe_lightning.evaluation.hypotheses import Decoded, Decoding, SystemCost
from moe_lightning.moe.model import MixtureASR
from moe_lightning.progress import progress


@torch.no_grad()
def decode(mixture: MixtureASR, loader: FixedLoader, device: torch.device) -> Decoded:
    """Greedy transcripts of every utterance of a loader, both systems on the same batches.

    The mixture embeds each utterance itself, as it does new audio: that is part of what it costs.
    """
    systems: dict[str, dict[str, str]] = {"backbone": {}, "mixture": {}}
    gates: dict[str, list[float]] = {}
    watches = {name: _Stopwatch(device) for name in systems}
    num_samples = 0
    for batch in progress(loader, "evaluating"):
        batch = _to_device(batch, device)
        speech = (batch.waveforms_BL, batch.num_samples_B)
        with watches["backbone"].running():
            bare = mixture.experts.transcribe(*speech, batch.languages, gate_BE=None)
        with watches["mixture"].running():
            embeddings_BD = mixture.embed(*speech)
            mixed = mixture.transcribe(*speech, batch.languages, embeddings_BD)
        systems["backbone"] |= zip(batch.ids, bare, strict=True)
        systems["mixture"] |= zip(batch.ids, mixed, strict=True)
        gates |= zip(batch.ids, mixture.gates(embeddings_BD).float().cpu().tolist(), strict=True)
        num_samples += int(batch.num_samples_B.sum())
    return Decoded(systems, gates, _cost(mixture, watches, num_samples / SAMPLE_RATE, device))


class _Stopwatch:
    """Seconds of work on a device, the work that it does behind our back included."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds += time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _cost(mixture: MixtureASR, watches: dict[str, _Stopwatch], audio_seconds: float, device: torch.device) -> Decoding:
    num_backbone = sum(parameter.numel() for parameter in mixture.experts.backbone.parameters())
    num_experts = sum(parameter.numel() for parameter in mixture.experts.expert_parameters())
    num_gate = sum(parameter.numel() for parameter in mixture.gate.parameters())
    num_backbone -= num_experts  # they live in its layers
    parameters = {"backbone": (num_backbone, 0), "mixture": (num_backbone, num_experts + num_gate)}
    systems = {
        name: SystemCost(
            seconds=round(watch.seconds, 3),
            real_time_factor=round(watch.seconds / audio_seconds, 6),
            parameters=sum(parameters[name]),
            trained_parameters=parameters[name][1],
        )
        for name, watch in watches.items()
    }
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else 1024 * kibibytes
    return Decoding(f"{device.type} ({name})", torch.get_num_threads(), round(audio_seconds, 2), memory, systems)


def _to_device(batch: SpeechBatch, device: torch.device) -> SpeechBatch:
    return SpeechBatch._make(part.to(device) if isinstance(part, Tensor) else part for part in batch)
