"""Embed until so many batches are done, then be killed.

`python -m tests.stages.embedding.dying SIGNAL NUM_BATCHES FLAGS`.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule

from moe_lightning.data.batches import AudioBatch
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.embedding.gradients import GradientModule
from moe_lightning.embedding.module import EmbeddingModule


def main() -> None:
    number = signal.Signals[sys.argv[1]]
    num_left = int(sys.argv[2])

    def or_die(predict_step: Callable[..., Any]) -> Callable[..., Any]:
        def predict_or_die(self: LightningModule, batch: AudioBatch, batch_idx: int) -> Any:
            nonlocal num_left
            if num_left == 0:
                os.kill(os.getpid(), number)
            num_left -= 1
            return predict_step(self, batch, batch_idx)

        return predict_or_die

    for module in (EmbeddingModule, GradientModule):
        module.predict_step = or_die(module.predict_step)
    embed(sys.argv[3:])


if __name__ == "__main__":
    main()
