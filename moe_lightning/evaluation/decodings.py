"""All ways to decode one mixture's weights: systems for a ladder that need no further training."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.data.normaliser import Normaliser
from moe_lightning.evaluation.alignment import count_words
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Hypotheses, Notes
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.settings.evaluation import System


class Written(NamedTuple):
    """Transcripts of a batch by one system."""

    texts: list[str]
    notes: list[Notes]

    @classmethod
    def of(cls, hypotheses: Hypotheses) -> "Written":
        return cls(hypotheses.texts, hypotheses.notes)


@torch.no_grad()
def decode_as(
    system: System,
    mixture: MixtureASR,
    batch: SpeechBatch,
    logits_BE: Tensor,
    true_experts: Mapping[str, int],
    base: Frames | None = None,
    options: DecodeOptions = DECODE,
) -> Written:
    """Transcripts of a batch by one system.

    Args:
        logits_BE: Gate logits.
        true_experts: Expert for the true group, by utterance id; for ``label``.
        base: From `MixtureASR.audio_logits`: frames that the mixture's experts reuse.
    """
    speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
    if system in ("mixture", "utterance_gate"):
        return Written.of(mixture.hypotheses(*speech, logits_BE, base, options))
    num_experts = mixture.config.experts.num_experts

    def by_gates(gate_BE: Tensor | None) -> Written:
        return Written.of(mixture.experts.transcribe(*speech, gate_BE, options))

    if system == "backbone":
        return by_gates(None)
    if system == "best_expert":
        return _fewest_errors(by_gates, batch, num_experts)
    if system == "uniform":
        return by_gates(logits_BE.new_full((len(batch.ids), num_experts), 1 / num_experts))
    experts_B = torch.tensor([true_experts[id_] for id_ in batch.ids], device=logits_BE.device)
    return by_gates(F.one_hot(experts_B, num_experts).float())


def _fewest_errors(by_gates: Callable[[Tensor], Written], batch: SpeechBatch, num_experts: int) -> Written:
    """The best of all experts' transcripts per utterance; the first among equals."""
    normaliser = Normaliser()
    references = [normaliser.units(*pair) for pair in zip(batch.texts, batch.languages, strict=True)]
    by_expert, errors = [], []
    for expert in range(num_experts):
        gate_BE = torch.zeros(len(batch.ids), num_experts, device=batch.waveforms_BL.device)
        gate_BE[:, expert] = 1.0
        by_expert.append(by_gates(gate_BE))
        written = [normaliser.units(*pair) for pair in zip(by_expert[-1].texts, batch.languages, strict=True)]
        errors.append(count_words(references, written).errors_N)
    best = [by_expert[expert] for expert in np.argmin(errors, axis=0)]
    return Written(*([part[row] for row, part in enumerate(parts)] for parts in zip(*best, strict=True)))
