"""Learning rates of the stages that train on speech."""

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "linear", "cosine"]


def schedule_factor(step: int, num_steps: int, num_warmup_steps: int, schedule: Schedule) -> float:
    """What the peak learning rate is multiplied by at a step, 0 to 1.

    It rises linearly over the warm-up, then stays, or falls to zero at ``num_steps``.
    """
    if step < num_warmup_steps:
        return (step + 1) / (num_warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps))
    return 1.0 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def scheduled(optimizer: Optimizer, num_steps: int, num_warmup_steps: int, schedule: Schedule) -> dict:
    """The optimizer with its schedule, in the form that `LightningModule.configure_optimizers` returns."""
    scheduler = LambdaLR(optimizer, lambda step: schedule_factor(step, num_steps, num_warmup_steps, schedule))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
