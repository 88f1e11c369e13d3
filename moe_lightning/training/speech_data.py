"""SpeechDataModule: audio and transcripts with soft labels, the base for the stages experts and moe."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from moe_lightning.data.augmentation import Augmentation
from moe_lightning.data.batches import SpeechBatch
from moe_lightning.data.loader import FixedLoader, ResumableLoader
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.models.backbones.window import REAL
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs
from moe_lightning.settings.lightning import Knob
from moe_lightning.training.speech_loaders import ALL_UTTERANCES, ExpertChoice, SpeechLoaders

_AUGMENTATION = ("speeds", "noise_dir", "noise_share", "snr_db", "reverb_dir", "reverb_share", "seed")


class SpeechDataModule(LightningDataModule):
    """Train and dev utterances of a run.

    Args:
        run_dir: Folder of the run, with manifests, embeddings and soft labels.
        whisper_model: The required model of the embeddings; None takes theirs.
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
    """

    def __init__(
        self,
        run_dir: str = "lightning_logs/full",
        whisper_model: str | None = None,
        batch_size: Knob[int] = 4,
        num_workers: Knob[int] = 2,
        percent: float = 100.0,
        soft_labels_file: str | None = None,
        seed: int = 42,
        max_seconds: Knob[float | None] = None,
        speeds: tuple[float, ...] = (1.0,),
        noise_dir: str | None = None,
        noise_share: float = 0.5,
        snr_db: tuple[float, float] = (5.0, 20.0),
        reverb_dir: str | None = None,
        reverb_share: float = 0.3,
    ):
        super().__init__()
        self.save_hyperparameters()
        self._train_loader: ResumableLoader | None = None
        self._resumed_state: Any = None
        self.last_batch: SpeechBatch | None = None
        """The current batch, for the out-of-memory message."""
        self.refined_labels: SoftLabels | None = None
        """Once set, these replace the clustering's soft labels in every batch."""

    @property
    def run(self) -> RunDir:
        return RunDir(Path(self.hparams["run_dir"]))

    @cached_property
    def inputs(self) -> RunInputs:
        """Soft labels and embeddings, read once."""
        return RunInputs.load(self.run, self.hparams["whisper_model"], self.hparams["soft_labels_file"])

    @property
    def num_experts(self) -> int:
        """Columns of the soft labels."""
        return self.inputs.soft_labels.num_experts

    @property
    def whisper_model(self) -> str:
        """Model of the embeddings."""
        return str(self.hparams["whisper_model"] or self.inputs.whisper_model)

    @property
    def window(self) -> float:
        """Minimum seconds that the model reads, 0 for real lengths."""
        return REAL

    @property
    def choice(self) -> ExpertChoice:
        """Selection of utterances by their experts."""
        return ALL_UTTERANCES

    @property
    def with_frames(self) -> bool:
        """True if batches hold stored frames, for the gate."""
        return False

    @property
    def loaders(self) -> SpeechLoaders:
        return SpeechLoaders(
            run=self.run,
            inputs=self.inputs,
            batch_size=self.hparams["batch_size"],
            num_workers=self.hparams["num_workers"],
            seed=self.hparams["seed"],
            percent=self.hparams["percent"],
            max_seconds=self.hparams["max_seconds"],
            choice=self.choice,
            augmentation=Augmentation.from_folders(**{name: self.hparams[name] for name in _AUGMENTATION}),
            window=self.window,
            with_frames=self.with_frames,
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
