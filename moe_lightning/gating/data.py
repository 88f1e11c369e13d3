"""GatingDataModule: embeddings of the store with the soft labels of the clustering."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, default_collate

from moe_lightning.batch import GateBatch
from moe_lightning.corpus.batch_plan import BatchPlan
from moe_lightning.corpus.loader import ResumableLoader
from moe_lightning.errors import InputError
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import RunInputs


class GatingDataModule(LightningDataModule):
    """Train and dev utterances of a run; the dev split's speakers are unseen.

    Args:
        run_dir: Folder of the run, with embeddings and soft labels.
        whisper_model: The model that the embeddings must be of.
        batch_size: Utterances a step.
        num_workers: Processes that collate; the embeddings are in memory, so none is fastest.
        soft_labels_file: Which soft labels, where the run has several.
        seed: Of the order of utterances.
    """

    def __init__(
        self,
        run_dir: str = "lightning_logs/full",
        whisper_model: str = "v2",
        batch_size: int = 256,
        num_workers: int = 0,
        soft_labels_file: str | None = None,
        seed: int = 42,
    ):
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.save_hyperparameters()
        self._train_loader: ResumableLoader | None = None
        self._resumed_state: Any = None

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
    def train_embeddings_ND(self) -> Tensor:
        """What the gate is standardised by."""
        return self._split("train").tensors[0]

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the train split; goes on where a checkpoint stood."""
        if self._train_loader is not None:  # asked for before every epoch
            return self._train_loader
        dataset = self._split("train")
        plan = BatchPlan([1.0] * len(dataset), self.hparams["batch_size"], self.hparams["seed"])
        assert self.trainer is not None
        self._train_loader = ResumableLoader(
            dataset,
            plan,
            _collate,
            num_workers=self.hparams["num_workers"],
            rank=self.trainer.global_rank,
            num_ranks=self.trainer.world_size,
        )
        if self._resumed_state:
            self._train_loader.load_state_dict(self._resumed_state)
        return self._train_loader

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self._split("dev"), batch_size=self.hparams["batch_size"], collate_fn=_collate)

    def state_dict(self) -> dict[str, Any]:
        """Where the train split stands."""
        return dict(self._train_loader.state_dict()) if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_state = state_dict or None

    def _split(self, split: str) -> TensorDataset:
        ids = [entry.id for entry in self.inputs.store.entries if entry.split == split]
        ids = [id_ for id_ in ids if id_ in self.inputs.soft_labels]
        if not ids:
            raise InputError(f"no utterance of the {split} split has a soft label; run `moe-lightning cluster` again")
        embeddings_ND = torch.from_numpy(self.inputs.store.of(ids))
        return TensorDataset(embeddings_ND, torch.from_numpy(self.inputs.soft_labels.of(ids)))


def _collate(items: list[tuple[Tensor, Tensor]]) -> GateBatch:
    return GateBatch(*default_collate(items))
