"""Each expert has an optimizer of its own, though all lie in the same tensors."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from moe_lightning.training.optimizer import ExpertAdamW
from tests.refusals import refuses

NUM_EXPERTS, RANK, SHARED_RANK = 3, 2, 1
SHAPES = ((7, 5), (7, 4), (7, 5))
SETTINGS = {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1}


def tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def stacked() -> tuple[list[nn.Parameter], ExpertAdamW]:
    parameters = [nn.Parameter(values) for values in tensors(0)]
    group = {"params": parameters, "rank": RANK, "shared_rank": SHARED_RANK}
    return parameters, ExpertAdamW([group], **SETTINGS)


def rows_of(expert: int) -> slice:
    return slice(expert * RANK, (expert + 1) * RANK)


def give_gradients(parameters: Sequence[nn.Parameter], step: int, experts: Sequence[int]) -> None:
    """Gradients of a step in which these experts, and the shared one, had utterances."""
    for parameter, gradient in zip(parameters, tensors(100 + step), strict=True):
        for expert in set(range(NUM_EXPERTS)) - set(experts):
            gradient[rows_of(expert)] = 0
        parameter.grad = gradient


STEPS: list[list[int]] = [[0], [0, 2], [1], [], [2], [0, 1, 2], [2]]


@pytest.mark.parametrize("expert", range(NUM_EXPERTS))
def test_an_expert_moves_as_by_an_adamw_of_its_own_over_its_own_steps(expert: int) -> None:
    parameters, optimizer = stacked()
    alone = [nn.Parameter(values[rows_of(expert)]) for values in tensors(0)]
    its_own = torch.optim.AdamW(alone, **SETTINGS)
    for step, experts in enumerate(STEPS):
        give_gradients(parameters, step, experts)
        optimizer.step()
        if expert in experts:
            for parameter, gradient in zip(alone, tensors(100 + step), strict=True):
                parameter.grad = gradient[rows_of(expert)]
            its_own.step()
    for parameter, own in zip(parameters, alone, strict=True):
        torch.testing.assert_close(parameter[rows_of(expert)], own, atol=1e-6, rtol=1e-5)


def test_the_shared_rows_move_in_every_step() -> None:
    parameters, optimizer = stacked()
    alone = [nn.Parameter(values[-SHARED_RANK:]) for values in tensors(0)]
    its_own = torch.optim.AdamW(alone, **SETTINGS)
    for step, experts in enumerate(STEPS):
        give_gradients(parameters, step, experts)
        optimizer.step()
        for parameter, gradient in zip(alone, tensors(100 + step), strict=True):
            parameter.grad = gradient[-SHARED_RANK:]
        its_own.step()
    for parameter, own in zip(parameters, alone, strict=True):
        torch.testing.assert_close(parameter[-SHARED_RANK:], own, atol=1e-6, rtol=1e-5)


def test_an_idle_or_frozen_expert_keeps_every_bit() -> None:
    parameters, optimizer = stacked()
    give_gradients(parameters, 0, [0, 1, 2])
    optimizer.step()
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer.freeze(torch.tensor([True, False, False]))
    give_gradients(parameters, 1, [0, 2])
    optimizer.step()
    for parameter, values in zip(parameters, before, strict=True):
        assert torch.equal(parameter[rows_of(0)], values[rows_of(0)])
        assert torch.equal(parameter[rows_of(1)], values[rows_of(1)])
        assert not torch.equal(parameter[rows_of(2)], values[rows_of(2)])
        assert not torch.equal(parameter[-SHARED_RANK:], values[-SHARED_RANK:])


def test_clipping_looks_at_each_expert_alone() -> None:
    parameters, optimizer = stacked()
    give_gradients(parameters, 0, [0, 2])
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad[rows_of(2)] *= 0.01
    before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    norms = optimizer.clip_experts(1.0)
    expected = torch.stack([gradient[rows_of(0)].square().sum() for gradient in before]).sum().sqrt()
    torch.testing.assert_close(norms[0], expected)
    assert float(norms[1]) == 0
    own = [nn.Parameter(torch.zeros_like(gradient[rows_of(0)])) for gradient in before]
    for parameter, gradient in zip(own, before, strict=True):
        parameter.grad = gradient[rows_of(0)].clone()
    nn.utils.clip_grad_norm_(own, 1.0)
    for parameter, gradient, alone in zip(parameters, before, own, strict=True):
        assert parameter.grad is not None
        assert alone.grad is not None
        torch.testing.assert_close(parameter.grad[rows_of(0)], alone.grad)
        assert torch.equal(parameter.grad[rows_of(2)], gradient[rows_of(2)])


def test_a_group_without_experts_is_trained_as_by_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizers = ExpertAdamW(ours.parameters(), **SETTINGS), torch.optim.AdamW(theirs.parameters(), **SETTINGS)
    for step in range(5):
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path) -> None:
    never_stopped, optimizer = stacked()
    stopped, before = stacked()
    for step, experts in enumerate(STEPS):
        give_gradients(never_stopped, step, experts)
        optimizer.step()
        if step < 3:
            give_gradients(stopped, step, experts)
            before.step()
    torch.save(before.state_dict(), tmp_path / "state")
    after = ExpertAdamW([{"params": stopped, "rank": RANK, "shared_rank": SHARED_RANK}], lr=1.0)
    after.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for step in range(3, len(STEPS)):
        give_gradients(stopped, step, STEPS[step])
        after.step()
    assert all(torch.equal(one, other) for one, other in zip(never_stopped, stopped, strict=True))


def test_steps_are_counted_beyond_what_bfloat16_can_count() -> None:
    """256 + 1 is 256 there, and the correction of the moments would stay what it was."""
    weights = nn.Parameter(torch.zeros(3, 2, dtype=torch.bfloat16))
    group = {"params": [weights], "rank": 1, "shared_rank": 1}
    optimizer = ExpertAdamW([group])
    for _ in range(2):
        for _ in range(300):
            weights.grad = torch.ones_like(weights)
            optimizer.step()
        state = optimizer.state_dict()
        optimizer = ExpertAdamW([group])
        optimizer.load_state_dict(state)
    for kind, num_units in (("expert", 2), ("other", 1)):
        assert optimizer.state[weights][kind]["step"].tolist() == [600.0] * num_units
        assert optimizer.state[weights][kind]["mean_PUN"].dtype == torch.bfloat16


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"weight_decay": -0.1}])
def test_impossible_settings_are_refused(settings: dict) -> None:
    with refuses("setting.range", "lr, eps, weight_decay, betas"):
        ExpertAdamW([nn.Parameter(torch.zeros(2))], **settings)
