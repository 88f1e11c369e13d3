"""Balance loss over the global batch: all ranks, all accumulation steps.

    balance = E * sum_e f_e * P_e

``f`` is the share of utterances whose likeliest expert is e (counts, no gradient), ``P`` the mean
probability of e. It is 1 when both are uniform and E when one expert takes all. Switch Transformer,
section 2.2 (Fedus et al. 2021, arXiv:2101.03961). Over a micro-batch of 2-4 utterances it would push
every utterance towards every expert, so it is taken over the whole batch that an optimizer step sees.
"""

import torch
from torch import Tensor
from torch import distributed as dist


def balance_loss(logits_BE: Tensor) -> Tensor:
    """Balance of a batch; under DDP, the mean of the ranks' results is the balance of the global batch.

    Args:
        logits_BE: The gate's logits for all utterances that this rank contributes to an optimizer step.
    """
    probs_BE = logits_BE.float().softmax(dim=1)
    num_local, num_experts = probs_BE.shape
    counts_E = torch.bincount(probs_BE.argmax(dim=1), minlength=num_experts).float()
    num_all = counts_E.new_tensor(float(num_local))
    num_ranks = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts_E)
        dist.all_reduce(num_all)
        num_ranks = dist.get_world_size()
    share_E = counts_E / num_all
    mean_prob_E = probs_BE.sum(dim=0) * num_ranks / num_all  # the mean over ranks of these is the global mean
    return num_experts * (share_E * mean_prob_E).sum()
