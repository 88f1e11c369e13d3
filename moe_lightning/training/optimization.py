"""Optimizer and learning rates of the trained stages."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FEWEST_POINTS = 10
"""Points of a training curve."""
Schedule = Literal["constant", "linear", "cosine"]


def adamw(parameters: Any) -> Optimizer:
    """The guide's optimizer."""
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)


def schedule_factor(step: int, share_done: float, num_warmup_steps: int, schedule: Schedule) -> float:
    """Factor on the peak learning rate, 0 to 1: a linear warm-up times the decay.

    Args:
        step: Optimizer steps done.
        share_done: Finished share of the whole training, 0 to 1. Unlike a number of steps it keeps its meaning
            when a training continues with other batch sizes or more devices.
    """
    warmup = min(1.0, (step + 1) / (num_warmup_steps + 1))
    if schedule == "constant":
        return warmup
    return warmup * (1.0 - share_done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share_done)))


def scheduled(optimizer: Optimizer, trainer: Trainer, num_warmup_steps: int, schedule: Schedule) -> dict[str, Any]:
    """The optimizer with its schedule, as a result of `LightningModule.configure_optimizers`."""

    def factor(step: int) -> float:
        return schedule_factor(step, share_done(trainer), num_warmup_steps, schedule)

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def log_often_enough(trainer: Any) -> None:
    """Log a short training more often than configured, so that its curves have at least ten points."""
    num_batches = trainer.num_training_batches * max(1, trainer.max_epochs or 1)
    if trainer.max_steps > 0:
        num_batches = min(num_batches, trainer.max_steps * trainer.accumulate_grad_batches)
    if 0 < num_batches < math.inf and trainer.log_every_n_steps:
        num_steps = int(num_batches) // trainer.accumulate_grad_batches
        trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, num_steps // FEWEST_POINTS))


def share_done(trainer: Trainer) -> float:
    """Finished share of a training, 0 to 1: by epochs and batches, or by steps if they end it."""
    if trainer.max_steps > 0:
        return min(1.0, trainer.global_step / trainer.max_steps)
    if not trainer.max_epochs or trainer.max_epochs < 0 or not 0 < trainer.num_training_batches < math.inf:
        return 0.0
    batches_done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    epochs_done = trainer.current_epoch + min(1.0, batches_done / trainer.num_training_batches)
    return min(1.0, epochs_done / trainer.max_epochs)
