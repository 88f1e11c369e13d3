"""ExpertModule: pre-train all experts in one job, each on the utterances of its cluster."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torchmetrics.text import WordErrorRate

from moe_lightning.backbone.loading import load_backbone
from moe_lightning.backbone.normaliser import normalised
from moe_lightning.backbone.speech import Pad
from moe_lightning.batch import SpeechBatch
from moe_lightning.checkpointing import drop_frozen, is_decoded, seed_step
from moe_lightning.corpus.spec_augment import SpecAugment
from moe_lightning.experts.adapters import save_adapters
from moe_lightning.experts.assignment import Assignment, assigned_gates
from moe_lightning.experts.gated_lora import ExpertConfig
from moe_lightning.experts.model import SpeechExperts, load_experts, save_experts
from moe_lightning.optimization import Schedule, adamw, scheduled
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import require_trained


class ExpertModule(LightningModule):
    """Cross-entropy of Whisper with experts, gated by the soft labels; the backbone stays frozen.

    Args:
        num_experts: Columns of the soft labels; comes from the clustering.
        whisper_model: v2, v3, nano, a hub id or a folder.
        run_dir: Folder of the run; `validate` takes the pre-trained experts from it.
        rank: Rank of each expert's LoRA deltas.
        alpha: Deltas are scaled by ``alpha / rank``.
        dropout: Of the deltas' input.
        shared_rank: Rank of one more expert that every utterance runs; 0 leaves it out.
        target_modules: Names of the linear layers that get experts.
        assignment: Which experts an utterance trains: ``hard``, ``top_k`` or ``soft``.
        top_k: Experts an utterance trains under ``top_k``.
        pad: ``batch`` computes real frames only, ``30s`` the classical window.
        language: Language of utterances whose manifest names none.
        schedule: Of the learning rate after the warm-up: ``constant``, ``linear`` or ``cosine``.
        num_warmup_steps: Steps of linear warm-up.
        max_decoded_batches: Batches of the dev split that are decoded for the WER in each validation; all
            unless given. Where the WER chooses the best epoch, a part of the split chooses by chance.
        num_freq_masks: Bands of mel bins that SpecAugment hides in each training utterance; 0 for none.
        num_time_masks: Stretches of frames that it hides; each a twentieth of the utterance at most.
    """

    def __init__(
        self,
        num_experts: int,
        whisper_model: str = "v2",
        run_dir: str = "lightning_logs/full",
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.05,
        shared_rank: int = 0,
        target_modules: tuple[str, ...] = ("q_proj", "v_proj"),
        assignment: Assignment = "top_k",
        top_k: int = 2,
        pad: Pad = "batch",
        language: str = "en",
        schedule: Schedule = "constant",
        num_warmup_steps: int = 0,
        max_decoded_batches: int | None = None,
        num_freq_masks: int = 0,
        num_time_masks: int = 0,
        optimizer: OptimizerCallable = adamw,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="optimizer")
        self.strict_loading = False  # checkpoints leave out the frozen backbone
        self.optimizer = optimizer
        self.seed = torch.initial_seed()  # as seed_everything set it
        config = ExpertConfig(num_experts, rank, alpha, dropout, shared_rank, tuple(target_modules))
        self.experts = SpeechExperts(load_backbone(whisper_model, pad, language), config)
        if num_freq_masks or num_time_masks:
            self.experts.spec_augment = SpecAugment(num_freq_masks, num_time_masks=num_time_masks)
        self.wer = WordErrorRate()

    def on_train_batch_start(self, batch: SpeechBatch, batch_idx: int) -> None:
        seed_step(self.seed, self.current_epoch, batch_idx, self.global_rank)

    def setup(self, stage: str) -> None:
        """Take the pre-trained experts to be validated; a checkpoint is loaded after this."""
        if stage != "fit":
            file = RunDir(Path(self.hparams["run_dir"])).pretrained_experts_file
            load_experts(self.experts, require_trained(file, "experts"))

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Mean cross-entropy a token, each utterance under the mixture that its soft label assigns."""
        loss = self._loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> dict[str, Any]:
        """Loss of the dev split, and WER of the first batches of it.

        Returns:
            ``gate_BE`` and, where the batch was decoded, ``hypotheses``: for the callbacks.
        """
        self.log("val/loss", self._loss(batch), prog_bar=True, sync_dist=True, batch_size=len(batch.ids))
        gate_BE = self._gates(batch.soft_labels_BE)
        hypotheses: list[str] = []
        if is_decoded(batch_idx, self.hparams["max_decoded_batches"]):
            hypotheses = self.experts.transcribe(batch.waveforms_BL, batch.num_samples_B, batch.languages, gate_BE)
            self.wer.update(*normalised(hypotheses, batch.texts))
            self.log("val/wer", self.wer, prog_bar=True, batch_size=len(batch.ids))
        return {"gate_BE": gate_BE, "hypotheses": hypotheses}

    def configure_optimizers(self) -> Any:
        return scheduled(
            self.optimizer(self.experts.expert_parameters()),
            self.trainer,
            self.hparams["num_warmup_steps"],
            self.hparams["schedule"],
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_frozen(checkpoint, self)

    def export(self, run: RunDir) -> None:
        """Write all experts for the joint stage, and each as a peft folder."""
        run.pretrained_experts_file.parent.mkdir(parents=True, exist_ok=True)
        save_experts(self.experts, run.pretrained_experts_file)
        save_adapters(self.experts, self.hparams["whisper_model"], run)

    def _gates(self, soft_labels_BE: Tensor) -> Tensor:
        return assigned_gates(soft_labels_BE, self.hparams["assignment"], self.hparams["top_k"])

    def _loss(self, batch: SpeechBatch) -> Tensor:
        return self.experts.loss(
            batch.waveforms_BL,
            batch.num_samples_B,
            batch.texts,
            batch.languages,
            self._gates(batch.soft_labels_BE),
        )
