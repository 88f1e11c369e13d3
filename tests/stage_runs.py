"""Training in the tests' own process, stopping it, and watching it."""

import importlib
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from tests.places import ROOT


def fit(stage: str, run: Path, whisper_model: Path, *options: str) -> None:
    """Train one stage of a run in this process, as its command would."""
    module = importlib.import_module(f"moe_lightning.{stage}.__main__")
    config = ROOT / "configs" / f"{stage}.yaml"
    command = ["fit", "--config", str(config), "--run_dir", str(run)]
    command += [] if stage == "moe" else ["--model.whisper_model", str(whisper_model)]  # moe reads it from the run
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    command += ["--trainer.callbacks", "null", "--ckpt_path", "last"]
    command += [] if stage == "gating" else ["--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    module.main([*command, *options])


def callback(name: str, **arguments: object) -> list[str]:
    """Flags that add one of this file's callbacks to a training."""
    values = [part for key, value in arguments.items() for part in (f"--trainer.callbacks.{key}", str(value))]
    return [f"--trainer.callbacks+=tests.stage_runs.{name}", *values]


class Stopped(Exception):
    """Stands for a machine that is taken away."""


class StopAfter(Callback):
    """Raises `Stopped` once so many batches are trained on, before a checkpoint of the last of them is written."""

    def __init__(self, num_batches: int):
        self.num_left = num_batches

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.num_left -= 1
        if self.num_left == 0:
            raise Stopped


class RecordOrder(Callback):
    """Appends the ids of every batch that is trained on to a file; of several ranks, each to one of its own."""

    def __init__(self, file: str):
        self.file = Path(file)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        file = self.file if trainer.world_size == 1 else Path(f"{self.file}.{trainer.global_rank}")
        with file.open("a") as lines:
            lines.write(" ".join(batch.ids) + "\n")


class RecordBalance(Callback):
    """Appends the last logged balance and the ids of every batch that is trained on to a file."""

    def __init__(self, file: str):
        self.file = Path(file)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        balance = float(trainer.callback_metrics.get("train/balance", float("nan")))
        with self.file.open("a") as lines:
            lines.write(" ".join([repr(balance), *batch.ids]) + "\n")


class RecordValidations(Callback):
    """Appends the epoch of every validation to a file."""

    def __init__(self, file: str):
        self.file = Path(file)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            with self.file.open("a") as lines:
                lines.write(f"{trainer.current_epoch}\n")


class SpoilAudio(Callback):
    """Turns the audio of one utterance into NaN whenever it is trained on."""

    def __init__(self, id: str):
        self.id = id

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.id in batch.ids:
            batch.waveforms_BL[batch.ids.index(self.id)] = torch.nan


class SpoilGradient(Callback):
    """Makes one parameter's gradient infinite in one backward pass."""

    def __init__(self, number: int):
        self.num_left = number

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.num_left -= 1
        if self.num_left == 0:
            gradients = [one.grad for one in pl_module.parameters() if one.grad is not None]
            gradients[0].flatten()[0] = torch.inf


class SpoilEveryGradient(Callback):
    """Makes one parameter's gradient NaN in every backward pass."""

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        next(one.grad for one in pl_module.parameters() if one.grad is not None).flatten()[0] = torch.nan


class RunOutOfMemory(Callback):
    """Asks for more memory than there is when one utterance is worked on, from an epoch on."""

    def __init__(self, id: str, epoch: int = 0):
        self.id = id
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.id in batch.ids and trainer.current_epoch >= self.epoch:
            ask_for_too_much()

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        if self.id in batch.ids and not trainer.sanity_checking:
            ask_for_too_much()


def ask_for_too_much(*_: Any, **__: Any) -> Tensor:
    """The CPU's allocator refuses, with its own error."""
    return torch.empty(2**55)


class HalfPrecision(MixedPrecision):
    """16-mixed, which Lightning refuses a CPU: half precision, and a scaler of gradients."""

    def __init__(self, init_scale: float):
        super().__init__("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=init_scale))


class RecordSteps(Callback):
    """Appends to a file whether each optimizer step has moved anything, and what is skipped so far."""

    def __init__(self, file: str):
        self.file = Path(file)
        self._before: Tensor | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        now = torch.cat([one.detach().flatten() for one in pl_module.parameters() if one.requires_grad])
        moved = self._before is not None and not torch.equal(now, self._before)
        self._before = now
        file = self.file if trainer.world_size == 1 else Path(f"{self.file}.{trainer.global_rank}")
        with file.open("a") as lines:
            lines.write(f"{int(moved)} {pl_module.skipped.count} {float(now.double().sum())!r}\n")


class RecordGateGradient(Callback):
    """Silences the experts, so that the gate learns of nothing but its own terms, and keeps its gradient of each step.

    Writes ``[{"ids": [...], "gradient": (E, H)}, ...]`` of the gate's output layer; each rank to a file of its own.
    """

    def __init__(self, file: str):
        self.file = file
        self._ids: list[str] = []
        self._steps: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            if name.endswith("up_RD"):
                parameter.data.zero_()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._ids += batch.ids

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradient = pl_module.mixture.gate.output.weight.grad
        self._steps.append({"ids": self._ids, "gradient": gradient.clone()})
        self._ids = []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.save(self._steps, f"{self.file}.{trainer.global_rank}")


class SignalItself(Callback):
    """Sends its own process, of several ranks the first, a signal once a hook has been called so many times."""

    def __init__(self, number: int, hook: str, num_calls: int):
        self.number = number
        self.num_left = num_calls
        setattr(self, hook, self._count)

    def _count(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.num_left -= not trainer.sanity_checking
        if self.num_left == 0 and trainer.is_global_zero:
            self.num_left -= 1
            os.kill(os.getpid(), self.number)


class RecordPlaces(Callback):
    """Appends the place and the ids of every batch that is trained on to a file: ``rank epoch batch ids``.

    Embeddings stand for ids where a batch has none, as the gate's.
    """

    def __init__(self, file: str):
        self.file = Path(file)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        ids = getattr(batch, "ids", None) or [str(zlib.crc32(row.numpy().tobytes())) for row in batch.embeddings_BD]
        with self.file.open("a") as lines:
            lines.write(f"{trainer.global_rank} {trainer.current_epoch} {batch_idx} {' '.join(ids)}\n")
