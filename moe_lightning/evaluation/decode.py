"""Decode a split by one or more systems with the same weights, and measure their cost."""

import platform
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from moe_lightning.data.audio import SAMPLE_RATE
from moe_lightning.data.batches import SpeechBatch
from moe_lightning.data.loader import FixedLoader
from moe_lightning.evaluation.decodings import decode_as
from moe_lightning.evaluation.hypotheses import Decoded, Guarded, SystemCost
from moe_lightning.models.backbones.activity import speech_probs
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Notes
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.routing import pooled
from moe_lightning.reports.results import Decoding
from moe_lightning.settings.evaluation import DEFAULT_SYSTEMS, System
from moe_lightning.system.terminal import progress
from moe_lightning.training.memory import explained

_TOO_LARGE = "lower --batch-size of `moe-lightning evaluate` (--set evaluation.batch_size=... of the pipeline)"


@torch.no_grad()
def decode(
    mixture: MixtureASR,
    loader: FixedLoader,
    device: torch.device,
    systems: Sequence[System] = DEFAULT_SYSTEMS,
    true_experts: Mapping[str, int] | None = None,
    speakers: Mapping[str, str] | None = None,
    options: DecodeOptions = DECODE,
) -> Decoded:
    """Transcripts of every utterance in a loader, all systems on the same batches.

    The mixture's gate reads each utterance itself, like new audio: this is part of the mixture's cost.

    Args:
        true_experts: Expert for the true group, by utterance id; for the system ``label``.
        speakers: Speaker by utterance id: the gate reads all of a speaker's utterances before decoding. None: it
            reads each utterance alone.
        options: For all systems; under ``guard`` speech is detected first, as part of every system's cost.

    Raises:
        InputError: The backbone cannot decode by these options.
    """
    mixture.experts.backbone.check_options(options)
    texts: dict[str, dict[str, str]] = {str(name): {} for name in systems}
    notes: dict[str, dict[str, Notes]] = {str(name): {} for name in systems}
    gates: dict[str, list[float]] = {}
    watches: dict[str, _Stopwatch] = {name: _Stopwatch(device) for name in systems}
    detecting = _Stopwatch(device)
    known = _read_speakers(mixture, loader, device, speakers, watches["mixture"]) if speakers else None
    num_samples = 0
    for batch in progress(loader, "evaluating"):
        with explained(batch, _TOO_LARGE):
            batch = _to_device(batch, device)
            with detecting.running():
                speech_B = speech_probs(batch.waveforms_BL, batch.num_samples_B) if options.guard else None
            of_batch = replace(options, speech_B=speech_B)
            with watches["mixture"].running():
                own_BE, logits_BE, base = _gate_logits(mixture, batch, known)
            for name in systems:
                gate_logits_BE = own_BE if name == "utterance_gate" else logits_BE
                with watches[name].running():
                    written = decode_as(name, mixture, batch, gate_logits_BE, true_experts or {}, base, of_batch)
                texts[name] |= zip(batch.ids, written.texts, strict=True)
                notes[name] |= zip(batch.ids, written.notes, strict=True)
        gates |= zip(batch.ids, mixture.gates(logits_BE).float().cpu().tolist(), strict=True)
        num_samples += int(batch.num_samples_B.sum())
    for watch in watches.values():
        watch.seconds += detecting.seconds
    audio_seconds = num_samples / SAMPLE_RATE
    decoding = _decoding(mixture, audio_seconds, device)._replace(
        gate_by="speaker" if speakers else "utterance", guard=options.guard, num_beams=options.num_beams
    )
    costs = _costs(mixture, watches, audio_seconds)
    return Decoded(texts, gates, decoding, costs, {name: Guarded.of(noted) for name, noted in notes.items()})


class _Known(NamedTuple):
    """Gate logits by utterance id, after reading every speaker."""

    own: dict[str, Tensor]
    """Logits from each utterance alone."""
    by_speaker: dict[str, Tensor]
    must_read_again: bool
    """True if the experts reuse frames from the gate's forward pass."""


def _read_speakers(
    mixture: MixtureASR, loader: FixedLoader, device: torch.device, speakers: Mapping[str, str], watch: "_Stopwatch"
) -> _Known:
    own: dict[str, Tensor] = {}
    base = None
    for batch in progress(loader, "reading speakers"):
        with explained(batch, _TOO_LARGE):
            batch = _to_device(batch, device)
            with watch.running():
                logits_BE, base = mixture.audio_logits(batch.waveforms_BL, batch.num_samples_B)
        own |= zip(batch.ids, logits_BE, strict=True)
    return _Known(own, pooled(own, speakers), base is not None)


def _gate_logits(mixture: MixtureASR, batch: SpeechBatch, known: _Known | None) -> tuple[Tensor, Tensor, Frames | None]:
    """Logits from each utterance alone, logits for decoding, and frames that the experts reuse."""
    if known is None:
        own_BE, base = mixture.audio_logits(batch.waveforms_BL, batch.num_samples_B)
        return own_BE, own_BE, base
    own_BE, logits_BE = (torch.stack([part[id_] for id_ in batch.ids]) for part in (known.own, known.by_speaker))
    base = mixture.audio_logits(batch.waveforms_BL, batch.num_samples_B)[1] if known.must_read_again else None
    return own_BE, logits_BE, base


class _Stopwatch:
    """Seconds of work on a device, including asynchronous work."""

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


def _costs(mixture: MixtureASR, watches: Mapping[str, _Stopwatch], audio_seconds: float) -> dict[str, SystemCost]:
    backbone = mixture.experts.backbone
    num_backbone = sum(parameter.numel() for parameter in backbone.parameters())
    num_experts = sum(parameter.numel() for parameter in mixture.experts.expert_parameters())
    num_gate = sum(parameter.numel() for parameter in mixture.gate.parameters())
    num_backbone -= num_experts  # the experts are part of its layers
    with_gate = num_experts + num_gate
    trained = {"backbone": 0, "mixture": with_gate, "utterance_gate": with_gate}  # the other systems run no gate
    return {
        name: SystemCost(
            seconds=round(watch.seconds, 3),
            real_time_factor=round(watch.seconds / audio_seconds, 6),
            parameters=num_backbone + trained.get(name, num_experts),
            trained_parameters=trained.get(name, num_experts),
            window=backbone.own_window if name == "backbone" else backbone.window,
        )
        for name, watch in watches.items()
    }


def _decoding(mixture: MixtureASR, audio_seconds: float, device: torch.device) -> Decoding:
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else 1024 * kibibytes
    return Decoding(
        device=f"{device.type} ({name})",
        num_threads=torch.get_num_threads(),
        audio_seconds=round(audio_seconds, 2),
        memory_bytes=memory,
        routing=mixture.config.routing,
        own_window=mixture.experts.backbone.own_window,
    )


def _to_device(batch: SpeechBatch, device: torch.device) -> SpeechBatch:
    return SpeechBatch._make(part.to(device) if isinstance(part, Tensor) else part for part in batch)
