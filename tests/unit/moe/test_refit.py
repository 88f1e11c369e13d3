"""The head of a gate, trained anew on soft labels."""

import torch

from moe_lightning.models.gate import Gate
from moe_lightning.models.routing import soft_label_divergence
from moe_lightning.moe.refinement_round import refit


def data() -> tuple[Gate, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pooled_NP = torch.randn(600, 8, generator=generator)
    labels_NE = (pooled_NP[:, :3] * 3).softmax(dim=1)
    torch.manual_seed(0)
    return Gate(8, 3, hidden_dim=32), pooled_NP, labels_NE


def test_the_head_comes_nearer_to_the_labels_and_itself_stays() -> None:
    head, pooled_NP, labels_NE = data()
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    state = refit(head, pooled_NP, labels_NE, num_epochs=20, learning_rate=1e-2, seed=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())
    with torch.no_grad():
        divergence = soft_label_divergence(head(pooled_NP), labels_NE)
        head.load_state_dict(state)
        assert soft_label_divergence(head(pooled_NP), labels_NE) < 0.1 * divergence


def test_the_same_data_give_the_same_weights_and_leave_the_random_numbers_alone() -> None:
    head, pooled_NP, labels_NE = data()
    states = []
    for draws_before in (0, 7):
        torch.manual_seed(5)
        torch.rand(draws_before)
        expected = torch.get_rng_state()
        states.append(refit(head, pooled_NP, labels_NE, num_epochs=2, learning_rate=1e-2, seed=1))
        assert torch.equal(torch.get_rng_state(), expected)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_trains_where_gradients_are_off() -> None:
    head, pooled_NP, labels_NE = data()
    with torch.no_grad():
        state = refit(head, pooled_NP, labels_NE, num_epochs=1, learning_rate=1e-2, seed=1)
    assert not torch.equal(state["output.weight"], head.output.weight)
