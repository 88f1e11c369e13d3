"""EmbeddingDataModule: the utterances of a run that have no embedding yet, each once over all ranks."""

from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import LightningDataModule

from moe_lightning.batch import AudioBatch
from moe_lightning.corpus import SPLITS, Utterance, read_manifest
from moe_lightning.corpus.batches import AudioDataset, AudioItem, BatchPlan, pad_waveforms
from moe_lightning.corpus.loader import FixedLoader
from moe_lightning.run_dir import RunDir
from moe_lightning.store_shards import finished_shards


class Progress(NamedTuple):
    """What a store holds before a run adds to it."""

    num_shards: int
    """One more than the highest number of a shard."""
    ids: list[str]
    """Utterances that are embedded."""

    @classmethod
    def read(cls, store_dir: Path) -> "Progress":
        """Of the shards that are whole."""
        shards = finished_shards(store_dir)
        num_shards = 1 + max((shard.number for shard in shards), default=-1)
        return cls(num_shards, [id_ for shard in shards for id_ in shard.ids])


class EmbeddingDataModule(LightningDataModule):
    """Audio of the splits train, dev and test, the longest utterances first.

    Args:
        run_dir: Folder of the run, with its manifests.
        store_dir: Folder of the store, with the shards of earlier runs.
        batch_size: Utterances of a batch on one device, at most.
        max_seconds: Seconds of audio in a batch, at most, as `BatchPlan` counts them; None for no limit.
        num_workers: Processes that read audio.
    """

    def __init__(
        self,
        run_dir: str,
        store_dir: str,
        batch_size: int = 64,
        max_seconds: float | None = None,
        num_workers: int = 2,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer batches than ranks are left
        self.splits: list[tuple[str, Utterance]] = []
        self.progress = Progress(0, [])

    def setup(self, stage: str) -> None:
        """Read the manifests, and what earlier runs have finished, as the first rank sees it."""
        run = RunDir(Path(self.hparams["run_dir"]))
        self.splits = [(split, utterance) for split in SPLITS for utterance in read_manifest(run.manifest_file(split))]
        assert self.trainer is not None
        progress = Progress.read(Path(self.hparams["store_dir"])) if self.trainer.is_global_zero else self.progress
        self.progress = self.trainer.strategy.broadcast(progress)

    def predict_dataloader(self) -> FixedLoader:
        """Batches of one length each, dealt out to the ranks; a rank may get one less than another, or none."""
        assert self.trainer is not None
        done = set(self.progress.ids)
        utterances = [utterance for _, utterance in self.splits if utterance.id not in done]
        if done and self.trainer.is_global_zero:
            print(f"embedding: {len(self.splits) - len(utterances)} of {len(self.splits)} utterances were done before")
        if not utterances:
            return FixedLoader(AudioDataset([]), [], _collate)
        durations_N = [utterance.duration for utterance in utterances]
        plan = BatchPlan(durations_N, self.hparams["batch_size"], 0, self.hparams["max_seconds"])
        batches = plan.sorted()[self.trainer.global_rank :: self.trainer.world_size]
        return FixedLoader(AudioDataset(utterances), batches, _collate, self.hparams["num_workers"])


def _collate(items: list[AudioItem]) -> AudioBatch:
    return AudioBatch([item.id for item in items], pad_waveforms([item.waveform_L for item in items]))
