"""The gate that hears all of a speaker."""

import math

import torch

from moe_lightning.models.routing import logits_by_speaker, pooled


def some_logits() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_of_one_utterance_the_gate_says_what_it_says_of_it_alone() -> None:
    logits_NE = some_logits()
    found_NE = logits_by_speaker(logits_NE, list("abcde"))
    torch.testing.assert_close(found_NE.softmax(dim=1), logits_NE.softmax(dim=1))


def test_utterances_of_a_speaker_share_the_sum_of_their_log_probabilities_over_the_root_of_their_number() -> None:
    logits_NE = some_logits()
    found_NE = logits_by_speaker(logits_NE, ["x", "y", "x", "x", "y"])
    log_probs_NE = logits_NE.log_softmax(dim=1)
    for rows in ([0, 2, 3], [1, 4]):
        expected_E = sum(log_probs_NE[row] for row in rows) / math.sqrt(len(rows))
        for row in rows:
            torch.testing.assert_close(found_NE[row], expected_E)


def test_an_utterance_that_misleads_the_gate_is_outvoted() -> None:
    logits_NE = torch.tensor([[2.0, 0.0], [1.5, 0.0], [0.0, 1.0]])
    assert logits_by_speaker(logits_NE, ["one"] * 3).argmax(dim=1).tolist() == [0, 0, 0]


def test_ids_keep_their_logits_whatever_the_order_of_the_speakers() -> None:
    logits = dict(zip("pqr", some_logits(), strict=False))
    found = pooled(logits, {"r": "one", "q": "two", "p": "one", "unheard": "two"})
    assert list(found) == ["p", "q", "r"]
    assert torch.equal(found["p"], found["r"])
    torch.testing.assert_close(found["q"], logits["q"].log_softmax(dim=0))
