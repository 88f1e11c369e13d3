"""ExpertModule: pre-train all experts in one job, each on the utterances of its cluster."""

import zlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics.text import WordErrorRate

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.data.normaliser import normalised
from moe_lightning.errors import InputError
from moe_lightning.experts.best import BestExperts
from moe_lightning.experts.objective import (
    Assignment,
    Lessons,
    Objective,
    are_independent,
    assigned_gates,
    check_objective,
    lessons,
)
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.window import Window
from moe_lightning.models.checkpoint import load_experts, save_adapter, save_adapters, save_experts
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import check_noise_column, require_trained
from moe_lightning.settings.lightning import Knob
from moe_lightning.training.checkpoints import drop_frozen, is_decoded, seed_step
from moe_lightning.training.optimizer import ExpertAdamW, Schedule, log_often_enough, scheduled
from moe_lightning.training.skipped_batches import SkippedBatches, gradient_scale, nothing_to_learn
from moe_lightning.training.transcripts import check_transcripts


class ExpertModule(LightningModule):
    """Cross-entropy of a speech model with experts, gated by the soft labels; the backbone stays frozen.

    Independent experts (``shared_rank`` 0, and ``assignment`` hard or ``objective`` separate) each keep the
    weights of their own best validation, and may stop one by one. Otherwise one epoch is best for all, by the
    score that the checkpoint monitors.

    Args:
        num_experts: Columns of the soft labels; comes from the clustering.
        whisper_model: base, small, v2, v3, turbo ..., nano, a hub id or a folder.
        run_dir: Folder of the run; `validate` loads the pre-trained experts from it.
        rank: Rank of each expert's LoRA deltas.
        alpha: Deltas are scaled by ``alpha / rank``.
        dropout: On the deltas' input.
        shared_rank: Rank of one more expert for every utterance; 0 leaves it out.
        target_modules: Linear layers with experts: last parts of their names, or regular expressions.
        adapt_from_layer: Encoder layers below this one stay unchanged.
        rslora: Scale the deltas by ``alpha / sqrt(rank)``.
        noop_expert: The last expert has no deltas, so its utterances run the backbone (and the shared expert);
            for soft labels with noise as the last column (`moe-lightning cluster --noise noop`).
        assignment: Experts trained per utterance: ``hard``, ``top_k`` or ``soft``.
        top_k: Experts per utterance under ``top_k``.
        objective: ``merged`` trains the mixture of an utterance's experts, ``separate`` each expert by itself.
        expert: The only expert that this job trains; comes from the data.
        expert_patience: Validations without a better loss before the training of an expert stops.
        window: Minimum input in seconds: ``auto`` (the model's training window: 30 s for Whisper), ``real``
            (real lengths), or a number. The joint stage takes the same.
        schedule: Learning rate after the warm-up: ``constant``, ``linear`` or ``cosine``.
        num_warmup_steps: Steps of linear warm-up.
        max_decoded_batches: Dev batches decoded for the WER in each validation; all by default. If the WER
            selects the best epoch, a part of the split makes the choice noisy.
        num_freq_masks: Frequency bands masked by SpecAugment in each training utterance; 0 for none.
        num_time_masks: Time spans masked by SpecAugment; each a twentieth of the utterance at most.
        compile: Compile the layers; the first step takes a minute or more.
        gradient_checkpointing: Run layers again in the backward pass instead of storing their results.
        max_skipped_batches: Batches without a finite loss or gradient that are skipped before the training
            ends with an error.
        optimizer: Its class, with arguments under ``init_args``: ``lr``, ``weight_decay``.
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
        adapt_from_layer: int = 0,
        rslora: bool = False,
        noop_expert: bool = False,
        assignment: Assignment = "top_k",
        top_k: int = 2,
        objective: Objective = "merged",
        expert: int | None = None,
        expert_patience: int | None = None,
        window: Window = "auto",
        schedule: Schedule = "constant",
        num_warmup_steps: int = 0,
        max_decoded_batches: int | None = None,
        num_freq_masks: int = 0,
        num_time_masks: int = 0,
        compile: Knob[bool] = False,
        gradient_checkpointing: Knob[bool] = False,
        max_skipped_batches: int = 20,
        optimizer: OptimizerCallable = ExpertAdamW,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="optimizer")
        self.strict_loading = False  # checkpoints leave out the frozen backbone
        self.optimizer = optimizer
        self.seed = torch.initial_seed()  # as seed_everything set it
        config = ExpertConfig.of(self.hparams)
        check_objective(objective, assignment, expert, config)
        self.experts = SpeechExperts(load_backbone(whisper_model, window), config)
        self.experts.hide(num_freq_masks, num_time_masks)
        self.experts.speed_up(compile, gradient_checkpointing)
        self.best = _best(self.experts, are_independent(objective, assignment, shared_rank), expert_patience)
        self.skipped = SkippedBatches(max_skipped_batches)
        self.wer = WordErrorRate()
        self._dev_sums_2E = torch.zeros(2, num_experts)

    @property
    def keeps_best(self) -> bool:
        """True if the best weights are in this module, not in the best epoch's checkpoint."""
        return self.best is not None

    def on_train_batch_start(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Seed dropout by the utterances, not by the batch index: it is the same for an expert alone."""
        seed_step(self.seed, self.current_epoch, zlib.crc32("\n".join(batch.ids).encode()), 0)

    def setup(self, stage: str) -> None:
        """Load the pre-trained experts to validate; a checkpoint is loaded after this."""
        if stage != "fit":
            file = RunDir(Path(self.hparams["run_dir"]), self.hparams["expert"]).pretrained_experts_file
            load_experts(self.experts, require_trained(file, "experts"), self.hparams["whisper_model"])

    def on_fit_start(self) -> None:
        check_transcripts(self.experts.backbone, self.trainer)
        if self.hparams["noop_expert"]:
            check_noise_column(self.trainer)

    def on_train_start(self) -> None:
        log_often_enough(self.trainer)

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Mean cross-entropy per token; each utterance runs the experts assigned by its soft label."""
        loss = self._loss(batch, self._lessons(batch))
        if not self.skipped.is_usable(batch.ids, loss):
            return nothing_to_learn(self.experts)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.skipped.check_gradient(optimizer, gradient_scale(self.trainer))
        self.log("train/skipped_batches", float(self.skipped.count))

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> dict[str, Any]:
        """Loss on the dev split, and WER on its first batches.

        Returns:
            ``gate_BE`` and, if the batch was decoded, ``hypotheses``: for the callbacks.
        """
        learned = self._lessons(batch)
        loss = self._loss(batch, learned, self._dev_sums_2E)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch.ids))
        gate_BE = assigned_gates(batch.soft_labels_BE, self.hparams["assignment"], self.hparams["top_k"])
        if self.hparams["expert"] is not None:
            gate_BE = learned.gate_NE
        hypotheses: list[str] = []
        if is_decoded(batch_idx, self.hparams["max_decoded_batches"]):
            speech = (batch.waveforms_BL, batch.num_samples_B, batch.languages)
            hypotheses = self.experts.transcribe(*speech, gate_BE).texts
            self.wer.update(*normalised(hypotheses, batch.texts, batch.languages))
            self.log("val/wer", self.wer, prog_bar=True, batch_size=len(batch.ids))
        return {"gate_BE": gate_BE, "hypotheses": hypotheses}

    def on_validation_epoch_start(self) -> None:
        self._dev_sums_2E = torch.zeros(2, self.hparams["num_experts"], device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Log each expert's loss on its own dev utterances; freeze experts that have stopped."""
        if self.trainer.sanity_checking:
            return
        sums_2E = self.trainer.strategy.reduce(self._dev_sums_2E, reduce_op="sum")
        assert isinstance(sums_2E, Tensor)
        loss_E = sums_2E[0] / sums_2E[1]  # NaN for an expert without a dev utterance
        for expert in sums_2E[1].nonzero().flatten().tolist():
            self.log(f"val/loss/expert_{expert}", loss_E[expert], sync_dist=True)
        if self.best is None or not self.trainer.optimizers:
            return
        self.best.update(self.experts, loss_E)
        for optimizer in self.trainer.optimizers:
            if isinstance(optimizer, ExpertAdamW):
                optimizer.freeze(self.best.has_stopped_E)
        own = slice(None) if self.hparams["expert"] is None else self.hparams["expert"]
        if self.best.has_stopped_E[own].all():
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer([self.experts.parameter_group()])
        return scheduled(optimizer, self.trainer, self.hparams["num_warmup_steps"], self.hparams["schedule"])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each expert's norm separately: one expert's large gradient must not shrink the others'."""
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm") and isinstance(optimizer, ExpertAdamW):
            optimizer.clip_experts(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_frozen(checkpoint, self)
        checkpoint["skipped_batches"] = self.skipped.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped.load_state(checkpoint.get("skipped_batches", {}))

    def export(self, run: RunDir) -> None:
        """Write all experts for the joint stage, and each as a peft folder; a single-expert job writes one folder."""
        if self.best is not None and bool(self.best.loss_E.isfinite().any()):
            self.best.restore(self.experts)
        run.pretrained_experts_file.parent.mkdir(parents=True, exist_ok=True)
        save_experts(self.experts, run.pretrained_experts_file, self.hparams["whisper_model"])
        expert = self.hparams["expert"]
        if expert is None:
            save_adapters(self.experts, self.hparams["whisper_model"], run.expert_dirs(self.experts.config.num_experts))
        else:
            save_adapter(self.experts, expert, self.hparams["whisper_model"], run.expert_dir(expert))

    def _lessons(self, batch: SpeechBatch) -> Lessons:
        names = ("assignment", "top_k", "objective", "expert")
        return lessons(batch.soft_labels_BE, *(self.hparams[name] for name in names))

    def _loss(self, batch: SpeechBatch, learned: Lessons, sums_2E: Tensor | None = None) -> Tensor:
        """Mean cross-entropy per token; each expert's loss and tokens are added to ``sums_2E``, if given."""
        loss = self.experts.losses(
            batch.waveforms_BL, batch.num_samples_B, batch.texts, batch.languages, learned.gate_NE
        )
        sums_2N = torch.stack([loss.sum_B * learned.weights_N, loss.num_tokens_B * learned.weights_N])
        if sums_2E is not None:
            sums_2E.index_add_(1, learned.experts_N, sums_2N.detach().to(sums_2E))
        return sums_2N[0].sum() / sums_2N[1].sum()


def _best(experts: SpeechExperts, are_independent: bool, patience: int | None) -> BestExperts | None:
    """Best states per expert, if the experts are independent.

    Raises:
        InputError: Experts should stop one by one, but depend on each other.
    """
    if patience is not None and not are_independent:
        raise InputError(
            "setting.conflict",
            f"expert_patience {patience} stops experts one by one, which takes experts that do not depend on each"
            " other: model.shared_rank 0, and model.assignment hard or model.objective separate",
            f"expert_patience={patience}",
        )
    return BestExperts(experts, patience) if are_independent else None
