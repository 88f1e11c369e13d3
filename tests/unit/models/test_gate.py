"""The gate that attends to frames and layers."""

import pytest
import torch
from torch import Tensor

from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.pooling import pool
from moe_lightning.models.gate import AttentiveGate
from moe_lightning.models.routing import soft_label_divergence
from tests.refusals import refuses

LENGTHS = [12, 5, 9, 1]


def some_frames(frame_dim: int = 8, seed: int = 0) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    return Frames(torch.randn(len(LENGTHS), max(LENGTHS), frame_dim, generator=generator), torch.tensor(LENGTHS))


def stirred(gate: AttentiveGate) -> AttentiveGate:
    """With weights of layers and frames that differ."""
    torch.manual_seed(1)
    torch.nn.init.normal_(gate.frame_score.weight)
    torch.nn.init.normal_(gate.layer_logits)
    return gate


def by_hand(gate: AttentiveGate, frames_TD: Tensor) -> Tensor:
    """The gate on one utterance's real frames, a frame at a time."""
    layers = gate.layer_logits.exp() / gate.layer_logits.exp().sum()
    standard_TD = (frames_TD - gate.mean_D) / gate.std_D
    mixed = [
        sum(w * part for w, part in zip(layers, frame.chunk(gate.num_layers), strict=True)) for frame in standard_TD
    ]
    scores = [gate.frame_score(torch.tanh(gate.frame_hidden(one))).exp() for one in mixed]
    weights = [score / sum(scores) for score in scores]
    mean_D = sum(w * one for w, one in zip(weights, mixed, strict=True))
    square_D = sum(w * one**2 for w, one in zip(weights, mixed, strict=True))
    std_D = (square_D - mean_D**2 + 1e-6).sqrt()
    return gate.head(torch.cat([mean_D, std_D])[None])[0]


def test_it_is_the_formula_of_the_paper_on_each_utterances_real_frames() -> None:
    frames = some_frames()
    gate = stirred(AttentiveGate(8, 2, 3, hidden_dim=16, attention_dim=4))
    gate.standardise([frames])
    expected_BE = torch.stack([by_hand(gate, frames.values_BTD[row, :length]) for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(gate(frames), expected_BE, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("junk", [1e6, float("nan"), float("inf")])
def test_what_is_behind_an_utterances_end_changes_neither_result_nor_gradient(junk: float) -> None:
    frames = some_frames()
    values_BTD = frames.values_BTD.masked_fill(~frames.is_real_BT[..., None], junk)
    gate = stirred(AttentiveGate(8, 2, 3))
    found = []
    for one in (frames, frames._replace(values_BTD=values_BTD)):
        gate.zero_grad()
        logits_BE = gate(one)
        logits_BE.square().sum().backward()
        gradients = [parameter.grad for parameter in gate.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        found.append([logits_BE, *gradients])
    torch.testing.assert_close(found[0], found[1])


def test_an_utterances_result_does_not_depend_on_its_batch() -> None:
    frames = some_frames()
    gate = stirred(AttentiveGate(8, 2, 3))
    alone_BE = torch.cat(
        [gate(Frames(frames.values_BTD[row : row + 1, :n], torch.tensor([n]))) for row, n in enumerate(LENGTHS)]
    )
    torch.testing.assert_close(gate(frames), alone_BE)


def test_before_training_it_reads_the_plain_statistics_of_the_mean_layer() -> None:
    frames = some_frames()
    mean_layer = frames._replace(values_BTD=frames.values_BTD.unflatten(2, (2, 4)).mean(dim=2))
    torch.testing.assert_close(AttentiveGate(8, 2, 3).pool(frames), pool(mean_layer, "mean+std"), atol=2e-3, rtol=1e-3)


def test_standardised_frames_and_pooled_statistics_have_mean_0_and_deviation_1() -> None:
    batches = [some_frames(seed=seed)._replace() for seed in range(30)]
    batches = [one._replace(values_BTD=one.values_BTD * 50 + 1000) for one in batches]
    gate = AttentiveGate(8, 2, 3)
    gate.standardise(batches)
    real_ND = torch.cat([one.values_BTD[one.is_real_BT] for one in batches])
    torch.testing.assert_close(gate.mean_D, real_ND.mean(dim=0), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(gate.std_D, real_ND.std(dim=0, correction=0), rtol=1e-3, atol=1e-2)
    pooled_ND = torch.cat([gate.pool(one) for one in batches])
    torch.testing.assert_close(gate.head.mean_D, pooled_ND.mean(dim=0))
    torch.testing.assert_close(gate.head.std_D, pooled_ND.std(dim=0, correction=0))


def test_it_learns_what_is_in_a_few_frames_of_one_layer_and_weighs_them_up() -> None:
    """The class is the sign of the frames that carry a mark; they are one in eight, the others noise."""
    generator = torch.Generator().manual_seed(0)

    def batch(num: int) -> tuple[Frames, Tensor]:
        values_BTD = torch.randn(num, 40, 12, generator=generator)
        labels_B = torch.randint(2, (num,), generator=generator)
        is_marked_BT = torch.rand(num, 40, generator=generator) < 0.125
        is_marked_BT[:, 0] = True
        values_BTD[..., 6] = is_marked_BT * 5.0
        values_BTD[..., 7] += is_marked_BT * (2.0 * labels_B[:, None] - 1)
        return Frames(values_BTD, torch.full((num,), 40)), labels_B

    torch.manual_seed(0)
    gate = AttentiveGate(12, 2, 2, hidden_dim=32, attention_dim=16)
    gate.standardise([batch(256)[0]])
    optimizer = torch.optim.AdamW(gate.parameters(), lr=1e-2)
    for _ in range(150):
        frames, labels_B = batch(64)
        optimizer.zero_grad()
        soft_label_divergence(gate(frames), torch.nn.functional.one_hot(labels_B, 2)).backward()
        optimizer.step()
    frames, labels_B = batch(500)
    with torch.no_grad():
        assert (gate(frames).argmax(dim=1) == labels_B).float().mean() > 0.9
        standard_BTD = (frames.values_BTD - gate.mean_D) / gate.std_D
        layers_H = gate.layer_logits.softmax(dim=0)
        mixed_BTD = (standard_BTD.unflatten(2, (2, 6)) * layers_H[:, None]).sum(dim=2)
        weights_BT = gate._frame_weights(mixed_BTD, frames.is_real_BT)
    assert layers_H[1] > 0.6
    is_marked_BT = frames.values_BTD[..., 6] > 0
    assert weights_BT[is_marked_BT].mean() > 2 * weights_BT[~is_marked_BT].mean()


def test_it_is_float32_under_autocast_and_takes_half_precision_frames() -> None:
    frames = some_frames()
    gate = stirred(AttentiveGate(8, 2, 3))
    expected_BE = gate(frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gate(frames), expected_BE)
    half_BE = gate(frames._replace(values_BTD=frames.values_BTD.half()))
    assert half_BE.dtype == torch.float32
    torch.testing.assert_close(half_BE, expected_BE, atol=1e-2, rtol=1e-2)


def test_frames_that_are_not_so_many_layers_are_refused() -> None:
    with refuses("embeddings.shape", 9):
        AttentiveGate(9, 2, 3)
    with refuses("setting.range", "attention_dim=0"):
        AttentiveGate(8, 2, 3, attention_dim=0)
