"""The ways to decode one mixture's weights: the systems that a ladder compares without training anything more."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.backbone.normaliser import Normaliser
from moe_lightning.backbone.speech import Frames
from moe_lightning.batch import SpeechBatch
from moe_lightning.evaluation.alignment import count_words
from moe_lightning.evaluation.system_names import System
from moe_lightning.moe.model import MixtureASR


@torch.no_grad()
def decode_as(
    system: System,
    mixture: MixtureASR,
    batch: SpeechBatch,
    logits_BE: Tensor,
    true_experts: Mapping[str, int],
    base: Frames | None = None,
) -> list[str]:
    """Transcripts of a batch by one system.

    Args:
        logits_BE: Of the gate.
        true_experts: Expert of each utterance's true group by its id, for ``label``.
        base: Of `MixtureASR.listen`: what the mixture's experts go on from.
    """
    if system in ("mixture", "utterance_gate"):
        return mixture.transcribe(batch.waveforms_BL, batch.num_samples_B, batch.languages, logits_BE, base)
    num_experts = mixture.config.experts.num_experts

    def by_gates(gate_BE: Tensor | None) -> list[str]:
        return mixture.experts.transcribe(batch.waveforms_BL, batch.num_samples_B, batch.languages, gate_BE).texts

    if system == "backbone":
        return by_gates(None)
    if system == "best_expert":
        return _fewest_errors(by_gates, batch, num_experts)
    if system == "uniform":
        return by_gates(logits_BE.new_full((len(batch.ids), num_experts), 1 / num_experts))
    experts_B = torch.tensor([true_experts[id_] for id_ in batch.ids], device=logits_BE.device)
    return by_gates(F.one_hot(experts_B, num_experts).float())


def _fewest_errors(by_gates: Callable[[Tensor], list[str]], batch: SpeechBatch, num_experts: int) -> list[str]:
    """Of all experts' transcripts the best one of each utterance; the first of equals."""
    normaliser = Normaliser()
    references = [normaliser.units(*pair) for pair in zip(batch.texts, batch.languages, strict=True)]
    best, fewest = [""] * len(batch.ids), [float("inf")] * len(batch.ids)
    for expert in range(num_experts):
        gate_BE = torch.zeros(len(batch.ids), num_experts, device=batch.waveforms_BL.device)
        gate_BE[:, expert] = 1.0
        texts = by_gates(gate_BE)
        written = [normaliser.units(*pair) for pair in zip(texts, batch.languages, strict=True)]
        errors = count_words(references, written).errors_N
        for row, (text, count) in enumerate(zip(texts, errors.tolist(), strict=True)):
            if count < fewest[row]:
                best[row], fewest[row] = text, count
    return best
