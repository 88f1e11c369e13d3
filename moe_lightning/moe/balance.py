"""Load-balancing loss over the global batch: all ranks, all accumulation steps.

    balance = E * sum_e f_e * P_e

``f`` is the share of utterances with e as likeliest expert (counts, no gradient), ``P`` e's mean probability.
It is 1 when both are uniform and E when one expert takes all. Switch Transformer, section 2.2 (Fedus et al.
2021, arXiv:2101.03961). Within a micro-batch (2-4 utterances) it would push every utterance towards every
expert, so it covers an optimizer step's whole batch.
"""

import torch
from torch import Tensor

from moe_lightning.training.global_batch import global_mean, sum_over_ranks


def balance_loss(logits_BE: Tensor) -> Tensor:
    """Load-balancing loss; under DDP the ranks' results have the global batch's loss as mean.

    Args:
        logits_BE: The gate's logits for all utterances on this rank in an optimizer step.
    """
    probs_BE = logits_BE.float().softmax(dim=1)
    num_experts = probs_BE.shape[1]
    counts_E = sum_over_ranks(torch.bincount(probs_BE.argmax(dim=1), minlength=num_experts).float())
    return num_experts * (counts_E / counts_E.sum() * global_mean(probs_BE)).sum()
