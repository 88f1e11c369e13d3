"""EmbeddingDataModule: all utterances of a run, each once over all ranks."""

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule

from moe_lightning.batch import AudioBatch
from moe_lightning.corpus import SPLITS, Utterance, read_manifest
from moe_lightning.corpus.batches import AudioDataset, AudioItem, BatchPlan, pad_waveforms
from moe_lightning.corpus.loader import FixedLoader
from moe_lightning.run_dir import RunDir


class EmbeddingDataModule(LightningDataModule):
    """Audio of the splits train, dev and test, one after another.

    Args:
        run_dir: Folder of the run, with its manifests.
        batch_size: Utterances of a batch on one device.
        num_workers: Processes that read audio.
    """

    def __init__(self, run_dir: str, batch_size: int = 16, num_workers: int = 2):
        super().__init__()
        self.save_hyperparameters()
        self.splits: list[tuple[str, Utterance]] = []

    def setup(self, stage: str) -> None:
        """Read the manifests."""
        run = RunDir(Path(self.hparams["run_dir"]))
        self.splits = [(split, utterance) for split in SPLITS for utterance in read_manifest(run.manifest_file(split))]

    def predict_dataloader(self) -> FixedLoader:
        """Batches of similar length."""
        assert self.trainer is not None
        utterances = [utterance for _, utterance in self.splits]
        plan = BatchPlan([utterance.duration for utterance in utterances], self.hparams["batch_size"], seed=0)
        batches = plan.epoch(0, self.trainer.global_rank, self.trainer.world_size)
        return FixedLoader(AudioDataset(utterances), batches, _collate, self.hparams["num_workers"])


def _collate(items: list[AudioItem]) -> AudioBatch:
    return AudioBatch(torch.tensor([item.row for item in items]), pad_waveforms([item.waveform_L for item in items]))
