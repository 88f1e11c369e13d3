"""What makes a resumed training the training that was never stopped."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn


class StageCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint whose folder may have been moved since its state was saved.

    Lightning's forgets the best score when the folder has another name, and writes over the best weights.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state, with its files where they lie now."""
        state = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = self._here(state_dict.get(name, ""))
        state["best_k_models"] = {
            self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()
        }
        super().load_state_dict(state)

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else ""


def drop_frozen(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Keep what training moves, and buffers, of a Lightning checkpoint's ``state_dict``.

    The frozen backbone is left out: gigabytes that never change.
    """
    parameters = module.named_parameters(remove_duplicate=False)  # the output layer is the token embedding again
    frozen = {name for name, parameter in parameters if not parameter.requires_grad}
    checkpoint["state_dict"] = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen}


def seed_step(seed: int, epoch: int, batch_idx: int, rank: int) -> None:
    """Make dropout a function of the place in the training, so that it needs no saving and is the same after a stop."""
    torch.manual_seed(hash((seed, epoch, batch_idx, rank)) % 2**63)  # of ints, the same in every process


def is_decoded(batch_idx: int, max_decoded_batches: int | None) -> bool:
    """Whether a batch of the dev split is decoded for the WER."""
    return max_decoded_batches is None or batch_idx < max_decoded_batches
