"""From the gate's logits to each utterance's weights of the experts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from moe_lightning.errors import InputError
from moe_lightning.models.global_batch import global_mean, sum_over_ranks
from moe_lightning.settings.joint import GateTraining

RoutingMode = Literal["merge", "top_k", "hard", "posterior", "confidence", "loss"]
"""In one pass, with the experts' parameters merged for each utterance - ``merge``: all experts by the gate's softmax;
``top_k``: the K likeliest, renormalised; ``hard``: the likeliest. With the K likeliest side by side, each a separate
recogniser - ``posterior``, ``confidence``, ``loss``: see `mixture`.
"""

ONE_PASS: tuple[RoutingMode, ...] = ("merge", "top_k", "hard")


class Routing(NamedTuple):
    """The experts of each utterance, best first."""

    weights_BK: Tensor
    """Share of each kept expert; rows sum to 1."""
    experts_BK: Tensor
    """Their indices, int64."""


class RoutingRule(NamedTuple):
    """From logits to a routing; the fields are arguments of `route`."""

    mode: RoutingMode
    top_k: int
    temperature: float = 1.0
    min_prob: float = 0.0


def gate_probs(logits_BE: Tensor, temperature: float = 1.0, min_prob: float = 0.0) -> Tensor:
    """Probabilities of all experts, float32: the softmax at a temperature, raised to a floor.

    Args:
        temperature: Divides the logits; lower is harder.
        min_prob: Minimum probability of each expert, under 1 / E; the rest shrinks in proportion.
    """
    probs_BE = (logits_BE.float() / temperature).softmax(dim=1)
    return min_prob + (1.0 - min_prob * logits_BE.shape[1]) * probs_BE if min_prob else probs_BE


def route(logits_BE: Tensor, mode: RoutingMode, top_k: int, temperature: float = 1.0, min_prob: float = 0.0) -> Routing:
    """Choose experts by the gate's logits; ``temperature`` and ``min_prob`` as in `gate_probs`.

    Raises:
        InputError: The mode is unknown, or ``top_k`` is not in 1..E.
    """
    num_experts = logits_BE.shape[1]
    check_routing(mode, top_k, num_experts)
    probs_BE = gate_probs(logits_BE, temperature, min_prob)
    num_kept = {"merge": num_experts, "hard": 1}.get(mode, top_k)
    weights_BK, experts_BK = probs_BE.topk(num_kept, dim=1)
    if mode == "hard":  # forward 1, backward the probability's gradient: the gate learns
        return Routing(1.0 + weights_BK - weights_BK.detach(), experts_BK)
    return Routing(weights_BK / weights_BK.sum(dim=1, keepdim=True), experts_BK)


def check_routing(mode: str, top_k: int, num_experts: int) -> None:
    """Raise an InputError for an unknown mode, or for ``top_k`` outside 1..E."""
    if mode not in get_args(RoutingMode):
        raise InputError(
            "setting.choice",
            f"routing must be one of {', '.join(get_args(RoutingMode))}, got {mode!r}",
            f"routing={mode}",
        )
    if not 1 <= top_k <= num_experts:
        raise InputError(
            "setting.range", f"top_k must be in 1..{num_experts}, the number of experts, got {top_k}", f"top_k={top_k}"
        )


def dense_gates(routing: Routing, num_experts: int) -> Tensor:
    """``gate_BE``: the weights at their experts' places, zero elsewhere."""
    gate_BE = routing.weights_BK.new_zeros(len(routing.weights_BK), num_experts)
    return gate_BE.scatter(1, routing.experts_BK, routing.weights_BK)


class Phase(NamedTuple):
    """Routing settings of one step."""

    routing: RoutingMode
    temperature: float
    """Divides the gate's logits."""
    pull: float
    """Remaining share of the pull towards the soft labels, 1 to 0."""


@dataclass(frozen=True)
class RoutingSchedule:
    """Routing phases of a training.

    Raises:
        InputError: A value is out of its range.
    """

    routing: RoutingMode
    """At the end."""
    before: tuple[str, ...] = ()
    """Earlier modes with their epochs: ``("merge:2", "posterior:1")``."""
    temperature: float = 1.0
    """At the end."""
    temperature_start: float | None = None
    """Initial temperature; it moves to the final one by equal factors in equal training shares; None: constant."""
    pull_until: float = 1.0
    """Share of the training over which the pull falls linearly to zero."""

    def __post_init__(self) -> None:
        _ = self.modes_before
        for name, value in (("gate_temperature", self.temperature), ("gate_temperature_start", self._start)):
            if not value > 0:
                raise InputError("setting.range", f"{name} must be above 0, got {value}", f"{name}={value}")

    @cached_property
    def modes_before(self) -> list[tuple[RoutingMode, int]]:
        """Modes before the last one, each with its number of epochs."""
        return [_parsed(entry) for entry in self.before]

    @property
    def modes(self) -> list[RoutingMode]:
        """All modes of the training."""
        return [*(mode for mode, _ in self.modes_before), self.routing]

    def at(self, epoch: int, share_done: float) -> Phase:
        """The phase of a step.

        Args:
            epoch: From 0.
            share_done: Finished share of the whole training, 0 to 1.
        """
        temperature = self._start * (self.temperature / self._start) ** share_done
        return Phase(self._mode(epoch), temperature, max(0.0, 1.0 - share_done / self.pull_until))

    @property
    def _start(self) -> float:
        return self.temperature if self.temperature_start is None else self.temperature_start

    def _mode(self, epoch: int) -> RoutingMode:
        end = 0
        for mode, num_epochs in self.modes_before:
            end += num_epochs
            if epoch < end:
                return mode
        return self.routing


def _parsed(entry: str) -> tuple[RoutingMode, int]:
    mode, _, epochs = str(entry).partition(":")
    if mode not in get_args(RoutingMode) or not epochs.isascii() or not epochs.isdigit() or int(epochs) < 1:
        raise InputError(
            "setting.syntax",
            f"routing_schedule takes entries MODE:EPOCHS such as merge:2, MODE one of"
            f" {', '.join(get_args(RoutingMode))}, got {entry!r}",
            f"routing_schedule={entry}",
        )
    return cast(RoutingMode, mode), int(epochs)


def logits_by_speaker(logits_NE: Tensor, speakers: Sequence[str]) -> Tensor:
    """The gate's logits pooled over a speaker's utterances, the same for each of them, (N, E).

    The sum over the log-probabilities of a speaker's n utterances, divided by sqrt(n). This lies between
    independent observations (the sum, Bayes' rule under an even prior) and n copies of one (the mean); utterances
    in one voice are partly both. For n = 1 it is the gate's own answer.

    Args:
        logits_NE: Of each utterance alone.
        speakers: Of each utterance.
    """
    names = {name: row for row, name in enumerate(dict.fromkeys(speakers))}
    speaker_N = torch.tensor([names[name] for name in speakers], device=logits_NE.device)
    log_probs_NE = logits_NE.float().log_softmax(dim=1)
    sums_SE = log_probs_NE.new_zeros(len(names), logits_NE.shape[1]).index_add_(0, speaker_N, log_probs_NE)
    counts_S = speaker_N.bincount(minlength=len(names))
    return (sums_SE / counts_S.sqrt()[:, None])[speaker_N]


def pooled(logits: Mapping[str, Tensor], speakers: Mapping[str, str]) -> dict[str, Tensor]:
    """`logits_by_speaker` for utterances by id."""
    ids = list(logits)
    pooled_NE = logits_by_speaker(torch.stack([logits[id_] for id_ in ids]), [speakers[id_] for id_ in ids])
    return dict(zip(ids, pooled_NE, strict=True))


def soft_label_divergence(logits_BE: Tensor, soft_labels_BE: Tensor) -> Tensor:
    """KL divergence of the gate from the soft labels, mean over the batch, in nats."""
    return F.kl_div(logits_BE.float().log_softmax(dim=1), soft_labels_BE.float(), reduction="batchmean")


def normalised_entropy(probs_BE: Tensor) -> Tensor:
    """Entropy per distribution, relative to the maximum: 0 is one expert, 1 is uniform; (B,)."""
    num_experts = probs_BE.shape[1]
    if num_experts == 1:
        return torch.zeros_like(probs_BE[:, 0])
    entropy_B = torch.special.entr(probs_BE.float()).sum(dim=1)
    return entropy_B / torch.log(torch.tensor(float(num_experts)))


def balance_loss(logits_BE: Tensor) -> Tensor:
    """Load-balancing loss; under DDP the ranks' results have the global batch's loss as mean.

    Args:
        logits_BE: The gate's logits for all utterances on this rank in an optimizer step.
    """
    probs_BE = logits_BE.float().softmax(dim=1)
    num_experts = probs_BE.shape[1]
    counts_E = sum_over_ranks(torch.bincount(probs_BE.argmax(dim=1), minlength=num_experts).float())
    return num_experts * (counts_E / counts_E.sum() * global_mean(probs_BE)).sum()


def gate_terms(logits_BE: Tensor, probs_BE: Tensor, soft_labels_BE: Tensor, weights: GateTraining) -> dict[str, Tensor]:
    """The terms with a weight, by name, and in any case the balance.

    Args:
        logits_BE: The gate's own, without noise or temperature, for all utterances on this rank in an
            optimizer step.
        probs_BE: Expert probabilities before the routing keeps some.
    """
    terms = {"balance": balance_loss(logits_BE)}
    if weights.z_weight:
        terms["z"] = z_loss(logits_BE)
    if weights.entropy_weight:
        terms["entropy"] = gate_entropy(probs_BE)
    if weights.pull_weight:
        terms["pull"] = pull(logits_BE, soft_labels_BE)
    return terms


def weighted_sum(terms: dict[str, Tensor], weights: GateTraining, pull_left: float) -> Tensor:
    """Sum of the weighted terms for the loss; ``pull_left`` is the remaining share of the pull."""
    factors = {
        "balance": weights.balance_weight,
        "z": weights.z_weight,
        "entropy": -weights.entropy_weight,
        "pull": weights.pull_weight * pull_left,
    }
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


def z_loss(logits_BE: Tensor) -> Tensor:
    """Mean of ``(log sum_e exp(logit_e)) ^ 2``: keeps logits small, so that the softmax keeps a gradient.

    ST-MoE, equation 5 (Zoph et al. 2022, arXiv:2202.08906), with a weight of 0.001 there.
    """
    return global_mean(logits_BE.float().logsumexp(dim=1).square())


def gate_entropy(probs_BE: Tensor) -> Tensor:
    """Mean normalised entropy of the expert probabilities, 0 to 1: as a bonus it delays a decided gate."""
    return global_mean(normalised_entropy(probs_BE))


def pull(logits_BE: Tensor, soft_labels_BE: Tensor) -> Tensor:
    """Mean KL divergence of the gate from the soft labels, in nats: the loss of the gate's own stage.

    As there, it takes the gate's plain softmax, before temperature, noise and floor.
    """
    soft_labels_BE = soft_labels_BE.float()
    cross_entropy_B = -(soft_labels_BE * logits_BE.float().log_softmax(dim=1)).sum(dim=1)
    return global_mean(cross_entropy_B - torch.special.entr(soft_labels_BE).sum(dim=1))


def noisy(logits_BE: Tensor, noise: float) -> Tensor:
    """Logits with normal noise of this standard deviation, so that a close second expert is tried now and then.

    Noisy top-k gating, section 2.1 and equation 4 of Shazeer et al. 2017 (arXiv:1701.06538), with a fixed
    deviation; theirs is learned by a network.
    """
    return logits_BE + noise * torch.randn_like(logits_BE) if noise else logits_BE
