"""Transcripts of a few dev utterances, in TensorBoard's text page."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from moe_lightning.data.batches import SpeechBatch


class SampleTranscripts(Callback):
    """Logs reference and hypothesis of the first utterances, from ``hypotheses`` in the output of `validation_step`.

    Args:
        num_samples: Number of utterances.
    """

    def __init__(self, num_samples: int = 8):
        self.num_samples = num_samples
        self._rows: list[str] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: SpeechBatch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep a batch's transcripts until there are enough."""
        if trainer.sanity_checking:
            return
        for row, hypothesis in zip(range(self.num_samples - len(self._rows)), outputs["hypotheses"], strict=False):
            self._rows.append(f"| {batch.ids[row]} | {_cell(batch.texts[row])} | {_cell(hypothesis)} |")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log them as a table."""
        rows, self._rows = self._rows, []
        if rows and isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
            table = "\n".join(["| utterance | reference | hypothesis |", "|---|---|---|", *rows])
            trainer.logger.experiment.add_text("transcripts", table, trainer.global_step)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
