"""EmbeddingDataModule: a run's utterances without an embedding, each once over all ranks."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import LightningDataModule

from moe_lightning.data.batches import AudioBatch, AudioDataset, AudioItem, BatchPlan, pad_waveforms
from moe_lightning.data.loader import FixedLoader
from moe_lightning.data.shards import finished_shards
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.models.backbones.window import REAL
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import read_split

CPU_SECONDS, GPU_SECONDS = 30.0, 480.0
"""Default seconds of audio per batch: to fit a core's caches, and to keep a GPU busy."""


class Progress(NamedTuple):
    """Contents of a store before a run adds to it."""

    num_shards: int
    """One more than the highest shard number."""
    ids: list[str]
    """Utterances with an embedding."""

    @classmethod
    def read(cls, store_dir: Path) -> "Progress":
        """Progress from the complete shards of a store."""
        shards = finished_shards(store_dir)
        num_shards = 1 + max((shard.number for shard in shards), default=-1)
        return cls(num_shards, [id_ for shard in shards for id_ in shard.ids])


class EmbeddingDataModule(LightningDataModule):
    """Audio and transcripts of the splits train, dev and test, longest utterances first.

    Args:
        run_dir: Folder of the run, with its manifests.
        store_dir: Folder of the store, with the shards of earlier runs.
        batch_size: Maximum number of utterances per batch on one device.
        max_seconds: Maximum seconds of audio per batch, counted as in `BatchPlan`; None: by device.
        window: Minimum cost of an utterance in seconds.
        num_workers: Processes that read audio.
        of_splits: The splits to embed.
    """

    def __init__(
        self,
        run_dir: str,
        store_dir: str,
        batch_size: int = 256,
        max_seconds: float | None = None,
        num_workers: int = 2,
        window: float = REAL,
        of_splits: Sequence[str] = SPLITS,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer batches than ranks are left
        self.splits: list[tuple[str, Utterance]] = []
        self.progress = Progress(0, [])

    def setup(self, stage: str) -> None:
        """Read the manifests and the finished utterances; all ranks use the first rank's list."""
        run = RunDir(Path(self.hparams["run_dir"]))
        self.splits = [
            (split, utterance) for split in self.hparams["of_splits"] for utterance in read_split(run, split)
        ]
        assert self.trainer is not None
        progress = Progress.read(Path(self.hparams["store_dir"])) if self.trainer.is_global_zero else self.progress
        self.progress = self.trainer.strategy.broadcast(progress)

    def predict_dataloader(self) -> FixedLoader:
        """Remaining batches of this rank; may be empty."""
        assert self.trainer is not None
        done, max_seconds = set(self.progress.ids), self.hparams["max_seconds"]
        num_done = sum(utterance.id in done for _, utterance in self.splits)
        if done and self.trainer.is_global_zero:
            print(f"embedding: {num_done} of {len(self.splits)} utterances were done before")
        return embedding_loader(
            [utterance for _, utterance in self.splits],
            self.hparams["batch_size"],
            default_seconds(self.trainer.strategy.root_device.type) if max_seconds is None else max_seconds,
            self.hparams["num_workers"],
            window=self.hparams["window"],
            rank=self.trainer.global_rank,
            num_ranks=self.trainer.world_size,
            done=done,
        )


def default_seconds(device: str) -> float:
    """Default seconds of audio per batch for a device type."""
    return CPU_SECONDS if device == "cpu" else GPU_SECONDS


def embedding_loader(
    utterances: Sequence[Utterance],
    batch_size: int,
    max_seconds: float,
    num_workers: int = 0,
    *,
    window: float = REAL,
    rank: int = 0,
    num_ranks: int = 1,
    done: Collection[str] = (),
) -> FixedLoader:
    """Batches of similar lengths, costliest first, distributed over the ranks; there may be none.

    Args:
        done: Utterances that need no embedding. Batches are planned with them and then drop them, so that a restarted
            command forms the same batches and computes the same bits.
    """
    durations_N = [max(utterance.duration, window) for utterance in utterances]
    planned = BatchPlan(durations_N, batch_size, 0, max_seconds).sorted() if utterances else []
    open_batches = [[row for row in batch if utterances[row].id not in done] for batch in planned]
    batches = [batch for batch in open_batches if batch][rank::num_ranks]
    return FixedLoader(AudioDataset(utterances), batches, _collate, num_workers)


def _collate(items: list[AudioItem]) -> AudioBatch:
    return AudioBatch(
        [item.id for item in items],
        pad_waveforms([item.waveform_L for item in items]),
        [item.text for item in items],
        [item.language for item in items],
    )
