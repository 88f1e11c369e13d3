"""Every routing mode against the obvious way: one expert after another, then the formula."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.backbones.base import mean_log_probs
from moe_lightning.models.backbones.decoding import DecodeOptions, Hypotheses, Notes, most_confident
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.mixture import mixture_hypotheses, mixture_loss
from moe_lightning.models.routing import ONE_PASS, Routing, RoutingMode, route
from tests.unit.models.conftest import NUM_EXPERTS

MODES: tuple[RoutingMode, ...] = get_args(RoutingMode)
SIDE_BY_SIDE: tuple[RoutingMode, ...] = tuple(mode for mode in MODES if mode not in ONE_PASS)


def logits() -> Tensor:
    return torch.randn(3, NUM_EXPERTS, generator=torch.Generator().manual_seed(2))


def one_hot(expert: int, num_utterances: int = 3) -> Tensor:
    return torch.eye(NUM_EXPERTS)[[expert] * num_utterances]


def sums_of_experts_alone(experts: SpeechExperts, batch: SpeechBatch) -> Tensor:
    """Summed negative log-likelihoods, (B, E), an expert and an utterance at a time."""
    sums_BE = torch.zeros(3, NUM_EXPERTS)
    for row in range(3):
        waveforms_1L, num_samples_1 = batch.waveforms_BL[row : row + 1], batch.num_samples_B[row : row + 1]
        targets = experts.backbone.targets(batch.texts[row : row + 1], batch.languages[row : row + 1])
        for expert in range(NUM_EXPERTS):
            frames = experts.encode(waveforms_1L[:, : int(num_samples_1)], num_samples_1, one_hot(expert, 1))
            sums_BE[row, expert] = experts.token_loss(frames, targets, one_hot(expert, 1)).sum_B[0]
    return sums_BE


@torch.no_grad()
def test_the_losses_of_all_experts_equal_those_of_each_alone(experts: SpeechExperts, batch: SpeechBatch) -> None:
    expected_BE = sums_of_experts_alone(experts, batch) / torch.tensor([[5.0], [11.0], [11.0]])
    assert expected_BE.std(dim=1).min() > 0.01, "the experts differ"
    for max_rows in (1, 7, 64):
        losses_BE = experts.losses_alone(batch, max_rows)
        assert losses_BE.dtype == torch.float32
        torch.testing.assert_close(losses_BE, expected_BE, atol=1e-4, rtol=1e-4)


def test_asking_for_the_experts_losses_leaves_training_as_it_was(experts: SpeechExperts, batch: SpeechBatch) -> None:
    expected_BE = experts.losses_alone(batch)
    layer = next(iter(experts.layers.values()))
    layer.train()
    try:
        assert torch.equal(experts.losses_alone(batch), expected_BE)
        assert layer.training
        assert not experts.training
    finally:
        layer.eval()


@torch.no_grad()
def test_loss_is_the_gates_mean_of_the_losses(experts: SpeechExperts, batch: SpeechBatch) -> None:
    routing = route(logits(), "loss", top_k=2)
    chosen_BK = sums_of_experts_alone(experts, batch).gather(1, routing.experts_BK)
    found = mixture_loss(experts, batch, routing, "loss")
    torch.testing.assert_close(found.sum_B, (routing.weights_BK * chosen_BK).sum(dim=1), atol=1e-3, rtol=1e-4)
    assert found.num_tokens_B.tolist() == [5, 11, 11]


@torch.no_grad()
def test_confidence_has_the_likelihood_of_a_hidden_expert(experts: SpeechExperts, batch: SpeechBatch) -> None:
    routing = route(logits(), "confidence", top_k=3)
    chosen_BK = sums_of_experts_alone(experts, batch).gather(1, routing.experts_BK).double()
    expected_B = -(routing.weights_BK.double() * (-chosen_BK).exp()).sum(dim=1).log()
    found = mixture_loss(experts, batch, routing, "confidence")
    torch.testing.assert_close(found.sum_B, expected_B.float(), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_posterior_averages_what_the_experts_say_next(experts: SpeechExperts, batch: SpeechBatch) -> None:
    routing = route(logits(), "posterior", top_k=2)
    found = mixture_loss(experts, batch, routing, "posterior")
    for row in range(3):
        targets = experts.backbone.targets(batch.texts[row : row + 1], batch.languages[row : row + 1])
        probs_S = torch.zeros(int(found.num_tokens_B[row]))
        for weight, expert in zip(routing.weights_BK[row], routing.experts_BK[row].tolist(), strict=True):
            gate_1E = one_hot(expert, 1)
            num_samples_1 = batch.num_samples_B[row : row + 1]
            frames = experts.encode(batch.waveforms_BL[row : row + 1, : int(num_samples_1)], num_samples_1, gate_1E)
            with experts.gated(gate_1E):
                probs_SV = experts.backbone._logits(frames, targets.inputs_BS)[0].softmax(dim=-1)
            labels_S = targets.labels_BS[0]
            probs_S += weight * probs_SV[labels_S >= 0].gather(1, labels_S[labels_S >= 0][:, None])[:, 0]
        torch.testing.assert_close(found.sum_B[row], -probs_S.log().sum(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_one_expert_that_takes_everything_is_that_expert_in_every_mode(
    mode: RoutingMode, experts: SpeechExperts, batch: SpeechBatch
) -> None:
    speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
    routing = route(60.0 * one_hot(2), mode, top_k=1)
    found = mixture_hypotheses(experts, *speech, routing, mode)
    assert found.texts == experts.transcribe(*speech, one_hot(2)).texts
    with torch.no_grad():
        loss = mixture_loss(experts, batch, routing, mode)
    expected_B = experts.loss(batch.waveforms_BL, batch.num_samples_B, batch.texts, batch.languages, one_hot(2))
    torch.testing.assert_close(loss.sum_B.sum() / loss.num_tokens_B.sum(), expected_B, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_every_expert_that_is_kept_and_no_other_gets_a_gradient(
    mode: RoutingMode, experts: SpeechExperts, batch: SpeechBatch
) -> None:
    logits_BE = torch.tensor([[5.0, 4.0, 1.0, 0.0]] * 3, requires_grad=True)
    mixture_loss(experts, batch, route(logits_BE, mode, top_k=2), mode).sum_B.sum().backward()
    kept = {"merge": {0, 1, 2, 3}, "hard": {0}}.get(mode, {0, 1})
    for layer in experts.layers.values():
        assert layer.up_RD.grad is not None
        for expert in range(NUM_EXPERTS):
            is_moved = bool(layer.up_RD.grad[experts.config.rows_of(expert)].abs().sum() > 0)
            assert is_moved == (expert in kept), f"expert {expert}"
    assert logits_BE.grad is not None
    assert (logits_BE.grad.abs().sum(dim=1) > 0).all(), "the gate learns too"
    for parameter in experts.expert_parameters():
        parameter.grad = None


@pytest.mark.parametrize("mode", MODES)
def test_an_utterances_text_does_not_depend_on_its_batch(
    mode: RoutingMode, experts: SpeechExperts, batch: SpeechBatch
) -> None:
    routing = route(logits(), mode, top_k=2)
    together = mixture_hypotheses(experts, batch.waveforms_BL, batch.num_samples_B, batch.languages, routing, mode)
    for row in range(3):
        num_samples_1 = batch.num_samples_B[row : row + 1]
        waveforms_1L = batch.waveforms_BL[row : row + 1, : int(num_samples_1)]
        own = Routing(*(part[row : row + 1] for part in routing))
        alone = mixture_hypotheses(experts, waveforms_1L, num_samples_1, batch.languages[row : row + 1], own, mode)
        assert alone.texts == together.texts[row : row + 1]
        torch.testing.assert_close(alone.scores_B, together.scores_B[row : row + 1], atol=1e-4, rtol=1e-4)


def test_confidence_writes_what_the_surest_of_the_kept_experts_writes(
    experts: SpeechExperts, batch: SpeechBatch
) -> None:
    speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
    routing = route(logits(), "confidence", top_k=3)
    found = mixture_hypotheses(experts, *speech, routing, "confidence")
    alone = [mixture_hypotheses(experts, *speech, route(60.0 * one_hot(e), "hard", 1), "hard") for e in range(4)]
    for row, kept in enumerate(routing.experts_BK.tolist()):
        best = max(kept, key=lambda expert: float(alone[expert].scores_B[row]))
        assert found.texts[row] == alone[best].texts[row]
        torch.testing.assert_close(found.scores_B[row], alone[best].scores_B[row], atol=1e-4, rtol=1e-4)


def test_the_most_confident_hypothesis_is_kept_and_the_first_of_equals() -> None:
    hypotheses = Hypotheses(
        ["a", "b", "c", "d"], torch.tensor([-2.0, -1.0, -0.5, -0.5]), [[1], [2], [3], [4]], [Notes()] * 4
    )
    kept = most_confident(hypotheses, 2)
    assert kept.texts == ["b", "c"]
    assert kept.scores_B.tolist() == [-1.0, -0.5]


def test_a_product_of_experts_is_their_weighted_geometric_mean() -> None:
    log_probs_NSV = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(3)).log_softmax(dim=-1)
    weights_BK = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    log_probs_NSV[:, :, 4] = -torch.inf  # a token that nobody may write
    found_BSV = mean_log_probs(log_probs_NSV, weights_BK, "geometric").exp()
    for row in range(2):
        first_SV, second_SV = log_probs_NSV[2 * row : 2 * row + 2].exp()
        product_SV = first_SV ** weights_BK[row, 0] * second_SV ** weights_BK[row, 1]
        product_SV[:, 4] = 0
        torch.testing.assert_close(found_BSV[row], product_SV / product_SV.sum(dim=1, keepdim=True))


@torch.no_grad()
def test_the_text_of_loss_adds_least_to_the_loss_at_every_token(experts: SpeechExperts, batch: SpeechBatch) -> None:
    """Against the whole decoder run again for each token, and the sum of w * CE looked up for every next one."""
    routing = route(logits(), "loss", top_k=2)
    tokens = experts.backbone.tokens
    options = DecodeOptions(max_tokens=60, guard=False)
    speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
    found = mixture_hypotheses(experts, *speech, routing, "loss", options=options)
    for row, num_samples in enumerate(batch.num_samples_B.tolist()):
        gate_2E = torch.eye(NUM_EXPERTS)[routing.experts_BK[row]]
        waveforms_1L, num_samples_1 = (
            batch.waveforms_BL[row : row + 1, :num_samples],
            batch.num_samples_B[row : row + 1],
        )
        frames = experts.encode(waveforms_1L, num_samples_1, gate_2E)
        written = tokens.prompt(batch.languages[row])
        num_prompt = len(written)
        while len(written) < num_prompt + options.max_tokens and written[-1] != tokens.end:
            with experts.gated(gate_2E):
                logits_2V = experts.backbone._logits(frames, torch.tensor([written] * 2))[:, -1]
            loss_V = -(routing.weights_BK[row][:, None] * logits_2V.log_softmax(dim=-1)).sum(dim=0)
            written.append(int(loss_V.argmin()))
        assert found.texts[row] == tokens.text(written[num_prompt:])
