"""From logits to each utterance's share of the experts."""

from typing import get_args

import pytest
import torch

from moe_lightning.models.routing import RoutingMode, dense_gates, gate_probs, route
from tests.refusals import refuses

MODES: tuple[RoutingMode, ...] = get_args(RoutingMode)


def logits(num_utterances: int = 6, num_experts: int = 5) -> torch.Tensor:
    return torch.randn(num_utterances, num_experts, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", MODES)
def test_every_utterances_shares_sum_to_1(mode: str) -> None:
    routing = route(logits(), mode, top_k=2)  # type: ignore[arg-type]
    torch.testing.assert_close(routing.weights_BK.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(dense_gates(routing, 5).sum(dim=1), torch.ones(6))


@pytest.mark.parametrize(("mode", "num_kept"), [("merge", 5), ("top_k", 2), ("hard", 1)])
def test_the_likeliest_experts_are_kept_best_first(mode: str, num_kept: int) -> None:
    logits_BE = logits()
    experts_BK = route(logits_BE, mode, top_k=2).experts_BK  # type: ignore[arg-type]
    assert experts_BK.dtype == torch.int64
    assert torch.equal(experts_BK, logits_BE.argsort(dim=1, descending=True)[:, :num_kept])


def test_the_two_best_are_renormalised_and_keep_their_proportion() -> None:
    logits_BE = logits()
    probs_BE = logits_BE.softmax(dim=1)
    routing = route(logits_BE, "top_k", top_k=2)
    for row, (first, second) in enumerate(routing.experts_BK.tolist()):
        expected = probs_BE[row, first] / (probs_BE[row, first] + probs_BE[row, second])
        torch.testing.assert_close(routing.weights_BK[row, 0], expected)


def test_top_k_of_all_experts_is_the_merge_and_top_1_is_hard() -> None:
    merged, kept = (dense_gates(route(logits(), mode, top_k=5), 5) for mode in ("merge", "top_k"))
    torch.testing.assert_close(merged, kept)
    torch.testing.assert_close(merged, logits().softmax(dim=1))
    top_1, hard = (dense_gates(route(logits(), mode, top_k=1), 5) for mode in ("top_k", "hard"))
    torch.testing.assert_close(top_1, hard)


def test_a_hard_choice_still_teaches_the_gate() -> None:
    """Straight-through: the share is 1, its gradient that of the expert's probability."""
    logits_BE = logits().requires_grad_()
    routing = route(logits_BE, "hard", top_k=1)
    assert torch.equal(routing.weights_BK.detach(), torch.ones(6, 1))
    routing.weights_BK.sum().backward()
    expected_BE = logits().requires_grad_()
    expected_BE.softmax(dim=1).amax(dim=1).sum().backward()
    torch.testing.assert_close(logits_BE.grad, expected_BE.grad)
    assert logits_BE.grad is not None
    assert logits_BE.grad.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize("mode", ["merge", "top_k"])
def test_a_soft_choice_teaches_the_gate(mode: str) -> None:
    logits_BE = logits().requires_grad_()
    (dense_gates(route(logits_BE, mode, top_k=2), 5) ** 2).sum().backward()  # type: ignore[arg-type]
    assert logits_BE.grad is not None
    assert logits_BE.grad.abs().sum(dim=1).min() > 0


def test_experts_that_are_not_kept_get_exactly_nothing() -> None:
    gate_BE = dense_gates(route(logits(), "top_k", top_k=2), 5)
    assert ((gate_BE > 0).sum(dim=1) == 2).all()


def test_a_low_temperature_decides_and_a_high_one_levels() -> None:
    torch.testing.assert_close(gate_probs(logits(), 0.5), (2 * logits()).softmax(dim=1))
    assert gate_probs(logits(), 0.01).amax(dim=1).min() > 0.99
    assert gate_probs(logits(), 100.0).amax(dim=1).max() < 0.22


def test_no_expert_has_less_than_the_floor_and_the_order_stays() -> None:
    probs_BE = gate_probs(20 * logits(), min_prob=0.1)
    torch.testing.assert_close(probs_BE.sum(dim=1), torch.ones(6))
    assert probs_BE.min() >= 0.1
    assert torch.equal(probs_BE.argmax(dim=1), logits().argmax(dim=1))
    kept = route(20 * logits(), "top_k", 2, min_prob=0.1).weights_BK
    assert kept[:, 1].min() > 0.1, "the second expert is trained however sure the gate is"


def test_shares_are_float32_whatever_the_logits_are() -> None:
    for mode in MODES:
        assert route(logits().bfloat16(), mode, top_k=2).weights_BK.dtype == torch.float32  # type: ignore[arg-type]


def test_one_expert_takes_everything() -> None:
    for mode in MODES:
        assert dense_gates(route(logits(3, 1), mode, top_k=1), 1).tolist() == [[1.0]] * 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "top_k", "refusal"),
    [
        ("soft", 2, ("setting.choice", "routing=soft")),
        ("top_k", 0, ("setting.range", "top_k=0")),
        ("top_k", 6, ("setting.range", "top_k=6")),
    ],
)
def test_what_cannot_be_is_refused(mode: str, top_k: int, refusal: tuple[str, ...]) -> None:
    with refuses(*refusal):
        route(logits(), mode, top_k)  # type: ignore[arg-type]
