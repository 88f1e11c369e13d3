"""GatingDataModule: the gate's input for each utterance, with the soft labels from the clustering."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from moe_lightning.data.batch_plan import BatchPlan
from moe_lightning.data.batches import GateBatch, SpeechBatch
from moe_lightning.data.loader import FixedLoader, ResumableLoader
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.window import REAL
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs
from moe_lightning.settings.lightning import Knob
from moe_lightning.training.speech_loaders import SpeechLoaders, require_frames, stored_frames

MOST_STANDARDISED = 1024
"""Utterances for standardising frames or live embeddings; cached embeddings, already in memory, use all."""
FRAMES_PER_SECOND = 50.0


class GatingDataModule(LightningDataModule):
    """Train and dev utterances of a run; the dev split's speakers are unseen.

    Args:
        run_dir: Folder of the run, with embeddings and soft labels.
        whisper_model: The embeddings must come from this model.
        batch_size: Utterances per step.
        num_workers: Worker processes that read audio (live) or collate; embeddings are in memory, so 0 is fastest.
        soft_labels_file: Soft labels to use, if the run has several.
        seed: For the order of utterances.
        gate: As in the model: ``attentive`` reads frames.
        gate_input: As in the model: ``live`` reads audio.
    """

    def __init__(
        self,
        run_dir: str = "lightning_logs/full",
        whisper_model: str = "v2",
        batch_size: Knob[int] = 256,
        num_workers: Knob[int] = 0,
        soft_labels_file: str | None = None,
        seed: int = 42,
        gate: str = "mlp",
        gate_input: str = "cached",
    ):
        super().__init__()
        if batch_size < 1:
            raise InputError(
                "setting.range", f"batch_size must be at least 1, got {batch_size}", f"batch_size={batch_size}"
            )
        self.save_hyperparameters()
        self._train_loader: ResumableLoader | None = None
        self._resumed_state: Any = None
        self.last_batch: GateBatch | SpeechBatch | None = None
        """The current batch, for the message when memory runs out."""

    @cached_property
    def inputs(self) -> RunInputs:
        """Soft labels and embeddings, read once."""
        return RunInputs.load(
            RunDir(Path(self.hparams["run_dir"])), self.hparams["whisper_model"], self.hparams["soft_labels_file"]
        )

    @property
    def num_experts(self) -> int:
        """Columns of the soft labels."""
        return self.inputs.soft_labels.num_experts

    @property
    def embedding_dim(self) -> int:
        return int(self.inputs.store.embeddings_ND.shape[1])

    @property
    def pooling(self) -> str:
        """Pooling of the embeddings."""
        return self.inputs.store.info.pooling if self.inputs.store.info else "mean"

    @property
    def embedding_window(self) -> float:
        """Window of the embeddings in seconds."""
        return self.inputs.store.info.window if self.inputs.store.info else REAL

    @property
    def embedding_layer(self) -> str:
        """Encoder layers of the embeddings."""
        return self.inputs.store.info.embedding_layer if self.inputs.store.info else "last"

    @property
    def train_embeddings_ND(self) -> Tensor:
        """For standardising a gate on cached embeddings."""
        return torch.from_numpy(self.inputs.store.of(self._ids("train")))

    def standardising_batches(self) -> FixedLoader:
        """For standardising any other gate: random train utterances, by seed, the same on every rank."""
        loader = self._fixed("train", rank=0, num_ranks=1)
        order = np.random.default_rng(self.hparams["seed"]).permutation(len(loader.batches))
        num_batches = max(1, MOST_STANDARDISED // self.hparams["batch_size"])
        loader.batches = [loader.batches[number] for number in order[:num_batches]]
        return loader

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the train split; continues from a checkpoint's position."""
        if self._train_loader is not None:  # Lightning asks before every epoch
            return self._train_loader
        assert self.trainer is not None
        place = {"rank": self.trainer.global_rank, "num_ranks": self.trainer.world_size}
        if self.hparams["gate_input"] == "live":
            self._train_loader = self._live.train(**place)
        else:
            dataset, plan, collate = self._cached("train")
            self._train_loader = ResumableLoader(dataset, plan, collate, self.hparams["num_workers"], **place)
        if self._resumed_state:
            self._train_loader.load_state_dict(self._resumed_state)
        return self._train_loader

    def val_dataloader(self) -> FixedLoader:
        assert self.trainer is not None
        return self._fixed("dev", self.trainer.global_rank, self.trainer.world_size)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Remember the current batch."""
        self.last_batch = batch
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Position in the train split."""
        return dict(self._train_loader.state_dict()) if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_state = state_dict or None

    @property
    def _live(self) -> SpeechLoaders:
        names = ("batch_size", "num_workers", "seed")
        run = RunDir(Path(self.hparams["run_dir"]))
        own = {name: self.hparams[name] for name in names}
        return SpeechLoaders(run, self.inputs, window=self.embedding_window, **own)

    def _fixed(self, split: str, rank: int, num_ranks: int) -> FixedLoader:
        """A split in the same batches every time, each utterance once over all ranks."""
        if self.hparams["gate_input"] == "live":
            return self._live.fixed(split, rank, num_ranks)
        dataset, plan, collate = self._cached(split)
        return FixedLoader(dataset, plan.epoch(0, rank, num_ranks), collate, self.hparams["num_workers"])

    def _cached(self, split: str) -> tuple[Dataset[Any], BatchPlan, Callable[[list[Any]], GateBatch]]:
        ids, store = self._ids(split), self.inputs.store
        if self.hparams["gate"] == "attentive":
            require_frames(store)
            num_frames = {entry.id: entry.num_frames or 0 for entry in store.entries}
            return (
                _Ids(ids),
                self._plan([num_frames[id_] / FRAMES_PER_SECOND for id_ in ids]),
                _FramesCollate(self.inputs),
            )
        tensors = (torch.from_numpy(part) for part in (store.of(ids), self.inputs.soft_labels.of(ids)))
        return TensorDataset(*tensors), self._plan([1.0] * len(ids)), _collate

    def _plan(self, durations: Sequence[float]) -> BatchPlan:
        return BatchPlan(durations, self.hparams["batch_size"], self.hparams["seed"])

    def _ids(self, split: str) -> list[str]:
        """Utterances of a split with a soft label."""
        ids = [entry.id for entry in self.inputs.store.entries if entry.split == split]
        ids = [id_ for id_ in ids if id_ in self.inputs.soft_labels]
        if not ids:
            raise InputError(
                "labels.missing",
                f"no utterance of the {split} split has a soft label; run `moe-lightning cluster` again",
                split,
            )
        return ids


class _Ids(Dataset[str]):
    """Utterance ids; their data is looked up when a batch is made."""

    def __init__(self, ids: Sequence[str]):
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> str:
        return self.ids[row]


@dataclass(frozen=True)
class _FramesCollate:
    inputs: RunInputs

    def __call__(self, ids: list[str]) -> GateBatch:
        """Frames, embeddings and soft labels of utterances."""
        embeddings_BD, labels_BE = self.inputs.store.of(ids), self.inputs.soft_labels.of(ids)
        frames = stored_frames(self.inputs.store, ids)
        return GateBatch(torch.from_numpy(embeddings_BD), torch.from_numpy(labels_BE), *frames[:2])


def _collate(items: list[tuple[Tensor, Tensor]]) -> GateBatch:
    return GateBatch(*default_collate(items))
