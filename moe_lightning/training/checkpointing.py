"""Exact resume: a resumed training equals one that was never stopped."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn

from moe_lightning.training.stopping import is_within_step


class StageCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that survives a move of its folder.

    Lightning's forgets the best score in a renamed folder, and overwrites the best weights.
    """

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Save if due, but not between the batches of one optimizer step: their gradients would be lost.

        After a resume Lightning's does save there.
        """
        if not is_within_step(trainer):
            super().on_train_batch_end(trainer, *args, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, with its files in the present folder."""
        state = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = self._here(state_dict.get(name, ""))
        state["best_k_models"] = {
            self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()
        }
        super().load_state_dict(state)

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else ""


class ExactResume(Callback):
    """Stores in a checkpoint the state that Lightning forgets: a due validation, the scores, the request to stop.

    Without it a training stopped between an epoch's last step and its validation would not validate that epoch; one
    stopped after its last epoch would export no scores; one ended by early stopping would train on.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._val_check_batch: int | float | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state."""
        epoch_loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        is_behind_batch = progress["completed"] == progress["processed"] - 1  # in its end hooks
        checkpoint["exact_resume"] = {
            "validation_is_due": is_behind_batch and fetcher is not None and epoch_loop._should_check_val_fx(fetcher),
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            "should_stop": trainer.should_stop,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the state; Lightning resumes a validation only if the checkpoint says that it was within one."""
        self._state = checkpoint.get("exact_resume", {})
        if self._state.get("validation_is_due"):
            loops = checkpoint["loops"]["fit_loop"]
            for counts in (loops["epoch_loop.batch_progress"][name] for name in ("total", "current")):
                counts["completed"] = counts["processed"]
            for counts in (loops["epoch_loop.val_loop.batch_progress"][name] for name in ("total", "current")):
                counts.update(ready=1, started=1, processed=0, completed=0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore scores and stop request."""
        scores: dict[str, Tensor] = {name: torch.tensor(one) for name, one in self._state.get("metrics", {}).items()}
        trainer.callback_metrics.update(scores)
        trainer.should_stop = trainer.should_stop or self._state.get("should_stop", False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the due validation, even if the next epoch has another length; count it from the start."""
        if self._state.get("validation_is_due"):
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()
            self._val_check_batch, trainer.val_check_batch = trainer.val_check_batch, 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._val_check_batch is not None:
            trainer.val_check_batch, self._val_check_batch = self._val_check_batch, None


def keep_nothing(trainer: Trainer) -> None:
    """Make a training a debug run: no checkpoints, no curves, and no early stopping without validation."""
    without = (ModelCheckpoint, *([] if trainer.limit_val_batches else [EarlyStopping]))
    trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, without)]  # type: ignore[attr-defined]
    trainer.loggers = [DummyLogger()]  # callbacks may ask for a logger


def keeps_files(trainer: Trainer) -> bool:
    """True if a training keeps anything; a debug run has no checkpoints, and must write nothing else either."""
    return any(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def drop_frozen(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Keep trained parameters and buffers in a Lightning checkpoint's ``state_dict``.

    The frozen backbone is left out: gigabytes that never change.
    """
    parameters = module.named_parameters(remove_duplicate=False)  # the output layer is the token embedding again
    frozen = {name for name, parameter in parameters if not parameter.requires_grad}
    checkpoint["state_dict"] = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen}


def seed_step(seed: int, epoch: int, batch_idx: int, rank: int) -> None:
    """Make dropout a function of the position in training: nothing is saved, and a stop changes nothing."""
    torch.manual_seed(hash((seed, epoch, batch_idx, rank)) % 2**63)  # a hash of ints is the same in every process


def is_decoded(batch_idx: int, max_decoded_batches: int | None) -> bool:
    """True if a dev batch is decoded for the WER."""
    return max_decoded_batches is None or batch_idx < max_decoded_batches
