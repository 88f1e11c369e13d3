"""Work for real processes that form a group, as DDP does."""

from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from moe_lightning.models.routing import balance_loss


def weights_and_inputs() -> tuple[Tensor, Tensor]:
    """A linear gate of 3 experts and 8 embeddings, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, generator=generator), torch.randn(8, 5, generator=generator)


def balance_of_a_part(rank: int, num_ranks: int, sizes: tuple[int, ...], folder: Path) -> None:
    """Balance and gradient of this rank's utterances, averaged over the ranks as DDP does; the first writes them."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=num_ranks)
    weights_ED, inputs_BD = weights_and_inputs()
    weights_ED.requires_grad_()
    start = sum(sizes[:rank])
    loss = balance_loss(inputs_BD[start : start + sizes[rank]] @ weights_ED.T)
    loss.backward()
    value, gradient_ED = loss.detach(), weights_ED.grad
    assert gradient_ED is not None
    for tensor in (value, gradient_ED):
        dist.all_reduce(tensor)
        tensor /= num_ranks
    if rank == 0:
        torch.save({"value": value, "gradient": gradient_ED}, folder / "averaged.pt")
    dist.destroy_process_group()
