"""The gate: from an utterance's embedding to a distribution over the experts."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.errors import InputError


class Gate(nn.Module):
    """Linear-ReLU-Linear on the standardised embedding.

    Raw Whisper embeddings differ in a few large dimensions unrelated to the speaker. So each dimension is first
    scaled to mean 0 and deviation 1 over the training embeddings.

    Args:
        embedding_dim: D of the pooled embeddings.
        num_experts: E.
        hidden_dim: Width of the hidden layer.

    Raises:
        InputError: ``hidden_dim`` is not positive.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, embedding_dim: int, num_experts: int, hidden_dim: int = 512):
        super().__init__()
        if hidden_dim < 1:
            raise InputError(f"hidden_dim must be at least 1, got {hidden_dim}")
        self.register_buffer("mean_D", torch.zeros(embedding_dim))
        self.register_buffer("std_D", torch.ones(embedding_dim))
        self.hidden = nn.Linear(embedding_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, num_experts)

    def standardise(self, embeddings_ND: Tensor) -> None:
        """Set mean and deviation from training embeddings; a constant dimension keeps deviation 1."""
        self.mean_D.copy_(embeddings_ND.mean(dim=0))
        std_D = embeddings_ND.std(dim=0, correction=0)
        self.std_D.copy_(torch.where(std_D > 1e-6, std_D, torch.ones_like(std_D)))

    @property
    def head(self) -> "Gate":
        """Network from a pooled vector to logits: here the whole gate."""
        return self

    def pool(self, embeddings_BD: Tensor) -> Tensor:
        """Input of the head: here the embedding itself."""
        return embeddings_BD

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """``logits_BE``, always float32, even in mixed-precision training."""
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            standard_BD = (embeddings_BD.float() - self.mean_D) / self.std_D
            return self.output(F.relu(self.hidden(standard_BD)))


def load_gate(gate: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Load the weights of a trained gate, read from ``file``.

    Raises:
        InputError: It has another size or kind.
    """
    own = gate.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found, wanted = (tuple(one[name].shape) if name in one else None for one in (state, own))
        if found != wanted:
            raise InputError(
                f"the gate in {file} does not fit: {name} is {found or 'missing'} there, {wanted or 'not used'} here;"
                " its number of experts, embeddings, hidden_dim or kind differ: give it the settings and the soft"
                " labels that it was trained with"
            )
    gate.load_state_dict(state)


def soft_label_divergence(logits_BE: Tensor, soft_labels_BE: Tensor) -> Tensor:
    """KL divergence of the gate from the soft labels, mean over the batch, in nats."""
    return F.kl_div(logits_BE.float().log_softmax(dim=1), soft_labels_BE.float(), reduction="batchmean")


def normalised_entropy(probs_BE: Tensor) -> Tensor:
    """Entropy per distribution, relative to the maximum: 0 is one expert, 1 is uniform; (B,)."""
    num_experts = probs_BE.shape[1]
    if num_experts == 1:
        return torch.zeros_like(probs_BE[:, 0])
    entropy_B = torch.special.entr(probs_BE.float()).sum(dim=1)
    return entropy_B / torch.log(torch.tensor(float(num_experts)))
