"""Embed until so many batches are done, then be killed: `python -m tests.embedding.dying SIGNAL NUM_BATCHES FLAGS`."""

import os
import signal
import sys
from typing import Any

from moe_lightning.batch import AudioBatch
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.embedding.module import EmbeddingModule


def main() -> None:
    number = signal.Signals[sys.argv[1]]
    num_left = int(sys.argv[2])
    predict_step = EmbeddingModule.predict_step

    def predict_or_die(self: EmbeddingModule, batch: AudioBatch, batch_idx: int) -> Any:
        nonlocal num_left
        if num_left == 0:
            os.kill(os.getpid(), number)
        num_left -= 1
        return predict_step(self, batch, batch_idx)

    EmbeddingModule.predict_step = predict_or_die  # type: ignore[method-assign]
    embed(sys.argv[3:])


if __name__ == "__main__":
    main()
