"""Train a gate's head anew on soft labels, with its whole input in memory."""

import copy

import torch
from torch import Tensor

from moe_lightning.gating.model import Gate, soft_label_divergence

BATCH_SIZE = 256


def refit(
    head: Gate, pooled_NP: Tensor, soft_labels_NE: Tensor, num_epochs: int, learning_rate: float, seed: int
) -> dict[str, Tensor]:
    """State of a copy of the head after training with AdamW on the soft labels; the head itself is unchanged.

    The result depends only on the arguments, not on the global random state. Hooks of distributed training do not see
    it, so every rank, or a single one, may call it.

    Args:
        pooled_NP: Input of the head, per utterance.
    """
    device_types = [pooled_NP.device] if pooled_NP.device.type == "cuda" else []
    with torch.random.fork_rng(devices=device_types), torch.enable_grad():
        torch.manual_seed(seed)
        own = copy.deepcopy(head).to(pooled_NP.device).train()
        optimizer = torch.optim.AdamW(own.parameters(), lr=learning_rate, weight_decay=0.01)
        for _ in range(num_epochs):
            for rows in torch.randperm(len(pooled_NP)).split(BATCH_SIZE):
                optimizer.zero_grad()
                soft_label_divergence(own(pooled_NP[rows]), soft_labels_NE[rows]).backward()
                optimizer.step()
    return {name: tensor.detach().cpu() for name, tensor in own.state_dict().items()}
