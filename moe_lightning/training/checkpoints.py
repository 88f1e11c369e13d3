"""Checkpoints: whole files, exact resume, and the best one."""

import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn

from moe_lightning.errors import InputError
from moe_lightning.system.atomic_file import keep_as, whole_file
from moe_lightning.training.stopping import is_within_step

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """Atomic writes of checkpoints: a kill leaves the old one or the new one; Lightning's own copies from ``/tmp``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; with a new ``last.ckpt``, the one before is kept.

        Raises:
            OSError: It cannot be written; the old ones stay.
        """
        file = Path(path)
        try:
            with whole_file(file) as partial:
                _save(checkpoint, partial)
                if file.name == LAST and file.exists():
                    keep_as(file, file.with_name(PREVIOUS))
        except OSError as error:
            raise OSError(
                f"the checkpoint {file} cannot be written ({error.strerror or error}); make room and run the same"
                " command again, it goes on from the checkpoint before"
            ) from error


def checkpoint_to_resume(folder: Path) -> Path | None:
    """The last checkpoint of a training, or the one before if that is damaged; None before the first.

    Raises:
        InputError: None of them is intact.
    """
    files = [file for file in (folder / LAST, folder / PREVIOUS) if file.exists()]
    whole = next((file for file in files if is_whole(file)), None)
    if files and whole is None:
        raise InputError(
            "file.changed",
            f"{' and '.join(map(str, files))} cannot be read to the end or have changed since they were written;"
            f" remove {folder} to train from the start",
            folder,
        )
    return whole


def require_whole(file: Path) -> Path:
    """The checkpoint, once verified.

    Raises:
        InputError: It is damaged.
    """
    if not is_whole(file):
        raise InputError(
            "file.changed",
            f"{file} cannot be read to the end or has changed since it was written; remove {file.parent} to train from"
            " the start",
            file,
        )
    return file


def is_whole(file: Path) -> bool:
    """True if a checkpoint's parts match their stored checksums; torch does not check them."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


class _Noting:
    """A file that keeps the reason for a failed write; torch reports only the failure."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        noting = _Noting(file)
        try:
            torch.save(checkpoint, noting)  # type: ignore[arg-type]
        except (RuntimeError, OSError) as error:
            raise (noting.error or error) from error


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
