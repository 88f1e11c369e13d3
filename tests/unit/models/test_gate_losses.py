"""What the joint loss says of the gate, against its formulas."""

import math

import pytest
import torch

from moe_lightning.models.routing import (
    balance_loss,
    gate_entropy,
    gate_terms,
    noisy,
    pull,
    soft_label_divergence,
    weighted_sum,
    z_loss,
)
from moe_lightning.settings.joint import GateTraining
from tests.refusals import refuses


def logits(num_utterances: int = 7, num_experts: int = 4) -> torch.Tensor:
    return torch.randn(num_utterances, num_experts, generator=torch.Generator().manual_seed(0))


def soft_labels(num_utterances: int = 7, num_experts: int = 4) -> torch.Tensor:
    return (2 * logits(num_utterances, num_experts).flip(0)).softmax(dim=1)


def test_the_z_loss_is_the_mean_square_of_the_log_of_the_summed_exponentials() -> None:
    rows = logits().double().tolist()
    expected = sum(math.log(sum(math.exp(value) for value in row)) ** 2 for row in rows) / len(rows)
    assert float(z_loss(logits())) == pytest.approx(expected, rel=1e-5)


def test_the_entropy_is_0_of_a_decided_gate_and_1_of_an_undecided_one() -> None:
    assert float(gate_entropy(torch.eye(4))) == pytest.approx(0.0, abs=1e-6)
    assert float(gate_entropy(torch.full((3, 4), 0.25))) == pytest.approx(1.0)


def test_the_pull_is_the_divergence_that_the_gate_was_trained_by() -> None:
    torch.testing.assert_close(pull(logits(), soft_labels()), soft_label_divergence(logits(), soft_labels()))
    assert float(pull(soft_labels().log(), soft_labels())) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(pull(logits(4), torch.eye(4))), "also of labels that leave experts out"


def test_only_terms_with_a_weight_are_computed_but_the_balance_always_is() -> None:
    probs_BE = logits().softmax(dim=1)
    assert set(gate_terms(logits(), probs_BE, soft_labels(), GateTraining(balance_weight=0.0))) == {"balance"}
    every = GateTraining(0.1, 0.2, 0.3, 0.4)
    assert set(gate_terms(logits(), probs_BE, soft_labels(), every)) == {"balance", "z", "entropy", "pull"}


def test_the_sum_weighs_each_term_subtracts_the_bonus_and_keeps_what_is_left_of_the_pull() -> None:
    weights = GateTraining(0.1, 0.2, 0.3, 0.4, router_noise=0.5)
    probs_BE = logits().softmax(dim=1)
    found = weighted_sum(gate_terms(logits(), probs_BE, soft_labels(), weights), weights, pull_left=0.25)
    expected = 0.1 * balance_loss(logits()) + 0.2 * z_loss(logits()) - 0.3 * gate_entropy(probs_BE)
    torch.testing.assert_close(found, expected + 0.25 * 0.4 * pull(logits(), soft_labels()))


def test_every_term_is_float32_whatever_the_logits_are() -> None:
    half_BE = logits().bfloat16()
    terms = gate_terms(half_BE, half_BE.softmax(dim=1), soft_labels(), GateTraining(1.0, 1.0, 1.0, 1.0))
    assert {value.dtype for value in terms.values()} == {torch.float32}


def test_a_step_along_each_gradient_does_what_the_term_is_for() -> None:
    for weights, measure in [
        (GateTraining(0.0, z_weight=1.0), lambda logits_BE: -z_loss(logits_BE)),
        (GateTraining(0.0, entropy_weight=1.0), lambda logits_BE: gate_entropy(logits_BE.softmax(dim=1))),
        (GateTraining(0.0, pull_weight=1.0), lambda logits_BE: -pull(logits_BE, soft_labels())),
    ]:
        logits_BE = logits().requires_grad_()
        terms = gate_terms(logits_BE, logits_BE.softmax(dim=1), soft_labels(), weights)
        (gradient_BE,) = torch.autograd.grad(weighted_sum(terms, weights, 1.0), logits_BE)
        assert float(measure(logits_BE - 0.1 * gradient_BE)) > float(measure(logits_BE))


def test_noise_is_a_function_of_the_seed_and_none_draws_nothing() -> None:
    torch.manual_seed(3)
    first_BE = noisy(logits(1000), 0.5)
    torch.manual_seed(3)
    assert torch.equal(noisy(logits(1000), 0.5), first_BE)
    assert float((first_BE - logits(1000)).std()) == pytest.approx(0.5, rel=0.05)
    state = torch.get_rng_state()
    assert torch.equal(noisy(logits(), 0.0), logits())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["balance_weight", "z_weight", "entropy_weight", "router_noise"])
def test_a_negative_weight_is_refused_by_its_name(name: str) -> None:
    with refuses("setting.range", f"{name}=-1.0"):
        GateTraining(**{name: -1.0})


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_the_pull_ends_within_the_training(value: float) -> None:
    with refuses("setting.range", f"pull_until={value}"):
        GateTraining(pull_until=value)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_the_gate_never_learns_backwards(value: float) -> None:
    with refuses("setting.range", f"lr_factor={value}"):
        GateTraining(lr_factor=value)
