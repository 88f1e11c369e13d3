"""Loss and text of a batch under a routing, with one definition for training and decoding.

In one-pass modes (``merge``, ``top_k``, ``hard``), each utterance runs one model, the gate's mean of its experts.
The others run the K likeliest experts side by side, B * K rows, and combine their outputs:

- ``posterior``: one recogniser with the next-token probabilities ``sum_k w_k p_k``. Loss and text are its own.
- ``loss``: the loss is ``sum_k w_k CE_k``, the cross-entropy of ``prod_k p_k ^ w_k`` without its normalising
  constant: a product of experts (Hinton 2002). The text is therefore decoded from that product, token by token:
  each step adds least to the loss. (CTC sums over alignments in the loss and takes the best one in the text, here
  as for a single model.)
- ``confidence``: one expert writes the whole utterance, so the loss is that of a mixture with a hidden expert,
  ``-log sum_k w_k p_k(transcript)`` (Jacobs et al. 1991, equation 1.3): an utterance trains the expert that
  explains it best; a weighted sum over losses would make experts alike. The text comes from the most confident
  expert, by its tokens' mean log-probability. The gate's weight does not count there: among experts that the
  gate has kept, it would outweigh small differences in confidence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.backbone.speech import DECODE, Average, DecodeOptions, Frames, Hypotheses, SpeechBackbone, TokenLoss
from moe_lightning.batch import SpeechBatch
from moe_lightning.errors import InputError
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.moe.routing import ONE_PASS, Routing, RoutingMode, dense_gates

_AVERAGE: dict[RoutingMode, Average] = {"posterior": "arithmetic", "loss": "geometric"}
"""Mean over the probabilities of experts side by side, for the text."""
MAX_ROWS = 64
"""Default number of rows that `expert_losses` runs at a time."""


def check_ability(backbone: SpeechBackbone, mode: RoutingMode) -> None:
    """Raise an InputError for a routing that a backbone cannot decode by."""
    needed = _AVERAGE.get(mode)
    if needed is not None and needed not in backbone.averages:
        able = [one for one in get_args(RoutingMode) if _AVERAGE.get(one) in (None, *backbone.averages)]
        raise InputError(
            f"a {type(backbone).__name__} cannot decode by the routing {mode}, which takes the {needed} mean of its"
            f" experts' probabilities; it can by {', '.join(able)}"
        )


def gate_rows(routing: Routing, mode: RoutingMode, num_experts: int) -> Tensor:
    """``gate_NE`` of a routing: one row per utterance, or its K experts one after another."""
    if mode in ONE_PASS:
        return dense_gates(routing, num_experts)
    return F.one_hot(routing.experts_BK.flatten(), num_experts).float()


def mixture_loss(
    experts: SpeechExperts, batch: SpeechBatch, routing: Routing, mode: RoutingMode, base: Frames | None = None
) -> TokenLoss:
    """Negative log-likelihood of each utterance's transcript under its mixture, with a gradient for its weights.

    Args:
        base: Input of the first encoder layer with experts, if already computed.
    """
    gate_NE = gate_rows(routing, mode, experts.config.num_experts)
    if mode in ("confidence", "loss"):
        return _chosen_loss(_losses_side_by_side(experts, batch, gate_NE, base), routing.weights_BK, mode)
    frames = experts.encode(batch.waveforms_BL, batch.num_samples_B, gate_NE, base)
    targets = experts.backbone.targets(batch.texts, batch.languages)
    return experts.token_loss(frames, targets, gate_NE, routing.weights_BK if mode == "posterior" else None)


@torch.no_grad()
def mixture_hypotheses(
    experts: SpeechExperts,
    waveforms_BL: Tensor,
    num_samples_B: Tensor,
    languages: Sequence[str | None],
    routing: Routing,
    mode: RoutingMode,
    base: Frames | None = None,
    options: DecodeOptions = DECODE,
) -> Hypotheses:
    """Text of each utterance under its mixture; ``base`` as in `mixture_loss`."""
    gate_NE = gate_rows(routing, mode, experts.config.num_experts)
    frames = experts.encode(waveforms_BL, num_samples_B, gate_NE, base)
    if mode in _AVERAGE:
        return experts.decode(frames, languages, gate_NE, routing.weights_BK, _AVERAGE[mode], options)
    num_rows = len(gate_NE) // len(languages)  # 1 where one pass has merged them
    if options.speech_B is not None:
        options = replace(options, speech_B=options.speech_B.repeat_interleave(num_rows))
    found = experts.decode(frames, _repeated(languages, num_rows), gate_NE, options=options)
    return most_confident(found, num_rows)


def most_confident(hypotheses: Hypotheses, num_side_by_side: int) -> Hypotheses:
    """The highest-scored of each utterance's K consecutive hypotheses; the first of equals."""
    scores_BK = hypotheses.scores_B.unflatten(0, (-1, num_side_by_side))
    best_B = scores_BK.argmax(dim=1)
    rows = [row * num_side_by_side + best for row, best in enumerate(best_B.tolist())]
    return Hypotheses(
        texts=[hypotheses.texts[row] for row in rows],
        scores_B=scores_BK.gather(1, best_B[:, None])[:, 0],
        tokens=[hypotheses.tokens[row] for row in rows],
        notes=[hypotheses.notes[row] for row in rows],
    )


@torch.no_grad()
def expert_losses(experts: SpeechExperts, batch: SpeechBatch, max_rows: int = MAX_ROWS) -> Tensor:
    """``losses_BE``: loss of each utterance's transcript under every expert alone, nats per token, float32.

    Without dropout and SpecAugment, in any mode of the experts.

    Args:
        max_rows: Most utterances times experts side by side (one expert always runs): bounds the memory.
    """
    num_utterances, num_experts = len(batch.ids), experts.config.num_experts
    num_at_once = max(1, max_rows // num_utterances)
    parts = []
    with evaluating(experts):
        base = experts.base_frames(batch.waveforms_BL, batch.num_samples_B)  # once for all
        for one_hot_CE in torch.eye(num_experts, device=batch.waveforms_BL.device).split(num_at_once):
            losses = _losses_side_by_side(experts, batch, one_hot_CE.repeat(num_utterances, 1), base)
            parts.append(losses.sum_B / losses.num_tokens_B)
    return torch.cat(parts, dim=1)


def _losses_side_by_side(
    experts: SpeechExperts, batch: SpeechBatch, gate_NE: Tensor, base: Frames | None = None
) -> TokenLoss:
    """Negative log-likelihood of each utterance under each row, (B, K)."""
    num_rows = len(gate_NE) // len(batch.ids)
    frames = experts.encode(batch.waveforms_BL, batch.num_samples_B, gate_NE, base)
    targets = experts.backbone.targets(_repeated(batch.texts, num_rows), _repeated(batch.languages, num_rows))
    losses = experts.token_loss(frames, targets, gate_NE)
    return TokenLoss(*(part.unflatten(0, (-1, num_rows)) for part in losses))


def _chosen_loss(losses: TokenLoss, weights_BK: Tensor, mode: RoutingMode) -> TokenLoss:
    """The losses of an utterance's K experts, combined by ``loss`` or ``confidence``."""
    sum_BK, num_tokens_B = losses.sum_B, losses.num_tokens_B[:, 0]
    if mode == "loss":
        return TokenLoss((weights_BK * sum_BK).sum(dim=1), num_tokens_B)
    return TokenLoss(-(weights_BK.clamp_min(1e-30).log() - sum_BK).logsumexp(dim=1), num_tokens_B)


def _repeated(values: Sequence[str | None], times: int) -> list:
    return [value for value in values for _ in range(times)]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context with every part of a module in evaluation mode; afterwards each returns to its own mode."""
    was_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in was_training:
            part.training = True
