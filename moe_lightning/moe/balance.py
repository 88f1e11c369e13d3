"""Balance loss over the global batch: all ranks, all accumulation steps.

    balance = E * sum_e f_e * P_e

``f`` is the share of utterances whose likeliest expert is e (counts, no gradient), ``P`` the mean
probability of e. It is 1 when both are uniform and E when one expert takes all. Switch Transformer,
section 2.2 (Fedus et al. 2021, arXiv:2101.03961). Over a micro-batch of 2-4 utterances it would push
every utterance towards every expert, so it is taken over the whole batch that an optimizer step sees.
"""

import torch
from torch import Tensor

from moe_lightning.training.global_batch import global_mean, sum_over_ranks


def balance_loss(logits_BE: Tensor) -> Tensor:
    """Balance of a batch; under DDP, the mean of the ranks' results is the balance of the global batch.

    Args:
        logits_BE: The gate's logits for all utterances that this rank contributes to an optimizer step.
    """
    probs_BE = logits_BE.float().softmax(dim=1)
    num_experts = probs_BE.shape[1]
    counts_E = sum_over_ranks(torch.bincount(probs_BE.argmax(dim=1), minlength=num_experts).float())
    return num_experts * (counts_E / counts_E.sum() * global_mean(probs_BE)).sum()
