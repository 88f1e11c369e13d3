"""SpeechDataModule: audio and transcripts with soft labels, for the stages experts and moe."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from moe_lightning.backbone.loading import resolve_window
from moe_lightning.backbone.window import REAL, Window
from moe_lightning.batch import SpeechBatch
from moe_lightning.corpus.augmentation import Augmentation
from moe_lightning.corpus.loader import FixedLoader, ResumableLoader
from moe_lightning.errors import InputError
from moe_lightning.experts.expert_file import read_window
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import RunInputs, require_trained
from moe_lightning.soft_labels import SoftLabels
from moe_lightning.speech_loaders import ExpertChoice, SpeechLoaders

_AUGMENTATION = ("speeds", "noise_dir", "noise_share", "snr_db", "reverb_dir", "reverb_share", "seed")


class SpeechDataModule(LightningDataModule):
    """Train and dev utterances of a run.

    Args:
        run_dir: Folder of the run, with manifests, embeddings and soft labels.
        whisper_model: The required model of the embeddings.
        batch_size: Utterances per step on one device.
        num_workers: Processes that read audio.
        percent: Share of the train split that is used.
        soft_labels_file: The soft labels to use, if the run has several.
        seed: Seed for the order of utterances and for the augmentation.
        max_seconds: Maximum seconds of audio per batch, padding included; an utterance of d seconds
            counts ``d + d * d / 20``. None leaves the size of a batch to ``batch_size``.
        speeds: Speed perturbation of training utterances, one drawn each time: [0.9, 1.0, 1.1].
        noise_dir: Folder of noises for the training, None for none.
        noise_share: Part of the training utterances that get noise.
        snr_db: Range of the signal-to-noise ratio, in decibels.
        reverb_dir: Folder of room impulse responses, None for none.
        reverb_share: Part of the training utterances that get reverberation.
        group_by_expert: Put utterances with the same likeliest expert into a batch.
        expert: Use only utterances that are assigned to this expert, to train it alone.
        experts_per_utterance: Experts assigned to each utterance; follows from the model's assignment.
        audio_window: Window of the model; None takes the window of the run's pre-trained experts.
        gate: The model's gate: ``attentive`` reads frames, from the store unless ``gate_input`` is live.
        gate_input: The model's ``gate_input``.
    """

    def __init__(
        self,
        run_dir: str = "lightning_logs/full",
        whisper_model: str = "v2",
        batch_size: int = 4,
        num_workers: int = 2,
        percent: float = 100.0,
        soft_labels_file: str | None = None,
        seed: int = 42,
        max_seconds: float | None = None,
        speeds: tuple[float, ...] = (1.0,),
        noise_dir: str | None = None,
        noise_share: float = 0.5,
        snr_db: tuple[float, float] = (5.0, 20.0),
        reverb_dir: str | None = None,
        reverb_share: float = 0.3,
        group_by_expert: bool = False,
        expert: int | None = None,
        experts_per_utterance: int | None = 1,
        audio_window: Window | None = None,
        gate: str = "mlp",
        gate_input: str = "cached",
    ):
        super().__init__()
        self.save_hyperparameters()
        self._train_loader: ResumableLoader | None = None
        self._resumed_state: Any = None
        self.last_batch: SpeechBatch | None = None
        """The current batch, for the out-of-memory message."""
        self.refined_labels: SoftLabels | None = None
        """Once set, these replace the clustering's soft labels in every batch."""

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
    def expert(self) -> int | None:
        """The single expert to train, None for all.

        Raises:
            InputError: There is no such expert.
        """
        expert = self.hparams["expert"]
        if expert is not None and not 0 <= expert < self.num_experts:
            raise InputError(
                f"data.expert must be in 0..{self.num_experts - 1}, the columns of the soft labels, got {expert}"
            )
        return None if expert is None else int(expert)

    @property
    def embedding_dim(self) -> int:
        return int(self.inputs.store.embeddings_ND.shape[1])

    @property
    def pooling(self) -> str:
        """Pooling of the stored embeddings; new audio must use the same."""
        return self.inputs.store.info.pooling if self.inputs.store.info else "mean"

    @property
    def embedding_window(self) -> float:
        """Window of the stored embeddings in seconds; new audio must use the same."""
        return self.inputs.store.info.window if self.inputs.store.info else REAL

    @cached_property
    def window(self) -> float:
        """Minimum seconds that the recogniser reads, 0 for real lengths."""
        if self.hparams["audio_window"] is not None:
            return resolve_window(self.hparams["audio_window"], self.hparams["whisper_model"])
        return read_window(require_trained(RunDir(Path(self.hparams["run_dir"])).pretrained_experts_file, "experts"))

    @property
    def embedding_layer(self) -> str:
        """Encoder layers of the stored embeddings; new audio must use the same."""
        return self.inputs.store.info.embedding_layer if self.inputs.store.info else "last"

    @property
    def loaders(self) -> SpeechLoaders:
        return SpeechLoaders(
            run=RunDir(Path(self.hparams["run_dir"])),
            inputs=self.inputs,
            batch_size=self.hparams["batch_size"],
            num_workers=self.hparams["num_workers"],
            seed=self.hparams["seed"],
            percent=self.hparams["percent"],
            max_seconds=self.hparams["max_seconds"],
            choice=ExpertChoice(self.hparams["group_by_expert"], self.expert, self.hparams["experts_per_utterance"]),
            augmentation=Augmentation.from_folders(**{name: self.hparams[name] for name in _AUGMENTATION}),
            window=self.window,
            with_frames=(self.hparams["gate"], self.hparams["gate_input"]) == ("attentive", "cached"),
        )

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the train split; resumes at the position in a checkpoint."""
        assert self.trainer is not None
        if self._train_loader is None:  # Lightning asks before every epoch
            self._train_loader = self.loaders.train(self.trainer.global_rank, self.trainer.world_size)
            if self._resumed_state:
                self._train_loader.load_state_dict(self._resumed_state)
        return self._train_loader

    def val_dataloader(self) -> FixedLoader:
        assert self.trainer is not None
        return self.loaders.fixed("dev", self.trainer.global_rank, self.trainer.world_size)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep the batch for error messages; insert refined labels, also into batches loaded before the refinement."""
        if not isinstance(batch, SpeechBatch):
            return batch
        self.last_batch = batch
        if self.refined_labels is None:
            return batch
        return batch._replace(soft_labels_BE=torch.from_numpy(self.refined_labels.of(batch.ids)))

    def state_dict(self) -> dict[str, Any]:
        """Position in the train split."""
        return dict(self._train_loader.state_dict()) if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_state = state_dict or None
