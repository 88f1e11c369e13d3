"""MoEASRModule: gate and experts trained together."""

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
from moe_lightning.models.backbones.base import Frames, TokenLoss
from moe_lightning.models.checkpoint import save_adapters
from moe_lightning.models.gate import GateInput, Readable
from moe_lightning.models.mixture import MixtureASR, check_ability
from moe_lightning.models.mixture_config import read_config
from moe_lightning.models.routing import (
    Phase,
    RoutingMode,
    RoutingSchedule,
    gate_terms,
    noisy,
    normalised_entropy,
    weighted_sum,
)
from moe_lightning.models.weights import write_state
from moe_lightning.moe.earlier_stages import load_earlier_stages
from moe_lightning.moe.refinement import Refinement
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import require_trained
from moe_lightning.settings.joint import GateTraining, RefinementSettings
from moe_lightning.settings.lightning import Knob
from moe_lightning.system.json_files import write_json
from moe_lightning.training.checkpoints import drop_frozen, is_decoded, seed_step
from moe_lightning.training.optimizer import ExpertAdamW, Schedule, log_often_enough, scheduled, share_done
from moe_lightning.training.skipped_batches import SkippedBatches, gradient_scale, nothing_to_learn
from moe_lightning.training.transcripts import check_transcripts


class MoEASRModule(LightningModule):
    """Cross-entropy of the mixture plus the load-balancing loss; starts from the trained gate and experts.

    Args:
        earlier: Settings of gate and experts; come from the run, by the data module.
        run_dir: Run folder, with gate and experts from the earlier stages.
        gate_input: ``cached``: from the store (with frames, for a gate with attention); ``live``: from the frozen
            encoder, in one pass with the experts if the gate's layers lie below them. None: as the gate was trained.
        routing: ``merge`` (all experts by the gate), ``top_k`` or ``hard`` run in one pass; ``posterior``,
            ``confidence`` or ``loss`` run the K likeliest experts side by side and cost K times as much.
            The same in training and decoding.
        top_k: Experts kept by all modes but ``merge`` and ``hard``.
        routing_schedule: Earlier modes, each with its number of epochs: [merge:2]. Validation uses its
            epoch's mode, and the best epoch's weights are decoded in their training mode.
        gate_temperature: Divides the gate's logits; lower is harder.
        gate_temperature_start: Initial temperature; it moves to ``gate_temperature`` in equal factors over
            the training. None: it is constant.
        min_expert_prob: Minimum probability of each expert before the routing keeps some; under
            1 / num_experts.
        gate_training: Load-balancing loss and other terms of the gate, its noise, its learning rate.
        schedule: Learning rate after the warm-up: ``constant``, ``linear`` or ``cosine``.
        num_warmup_steps: Steps of linear warm-up.
        max_decoded_batches: Dev batches decoded for the WER in each validation; all by default. If the WER
            selects the best epoch, a part of the split makes the choice noisy.
        num_freq_masks: Frequency bands masked by SpecAugment in each training utterance; 0 for none.
        num_time_masks: Time spans masked by SpecAugment; each a twentieth of the utterance at most.
        refinement: Rounds that assign utterances to experts anew, see `RefinementSettings`.
        max_skipped_batches: Batches without a finite loss or gradient that are skipped before the training
            ends with an error.
        compile: Compile the layers; the first step takes a minute or more.
        gradient_checkpointing: Run layers again in the backward pass instead of storing their results.
        optimizer: Its class, with arguments under ``init_args``: ``lr``, ``weight_decay``.
    """

    def __init__(
        self,
        earlier: Any,
        run_dir: str = "lightning_logs/full",
        gate_input: GateInput | None = None,
        routing: RoutingMode = "top_k",
        top_k: int = 2,
        routing_schedule: tuple[str, ...] = (),
        gate_temperature: float = 1.0,
        gate_temperature_start: float | None = None,
        min_expert_prob: float = 0.0,
        gate_training: GateTraining = GateTraining(),
        schedule: Schedule = "constant",
        num_warmup_steps: int = 0,
        max_decoded_batches: int | None = None,
        num_freq_masks: int = 0,
        num_time_masks: int = 0,
        refinement: RefinementSettings = RefinementSettings(),
        max_skipped_batches: int = 20,
        compile: Knob[bool] = False,
        gradient_checkpointing: Knob[bool] = False,
        optimizer: OptimizerCallable = ExpertAdamW,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=("optimizer", "earlier", "gate_training", "refinement"))  # plain values
        self.strict_loading = False  # checkpoints leave out the frozen backbone
        self.optimizer = optimizer
        self.seed = torch.initial_seed()  # as seed_everything set it
        self.gate_training = gate_training
        self.phases = RoutingSchedule(
            routing, tuple(routing_schedule), gate_temperature, gate_temperature_start, gate_training.pull_until
        )
        rule = {"routing": routing, "top_k": top_k, "gate_temperature": gate_temperature}
        self.mixture = MixtureASR(earlier.mixture_config(gate_input, min_expert_prob=min_expert_prob, **rule))
        for mode in self.phases.modes:
            check_ability(self.mixture.experts.backbone, mode)
        self.mixture.experts.hide(num_freq_masks, num_time_masks)
        self.mixture.experts.speed_up(compile, gradient_checkpointing)
        self.refinement = Refinement(refinement, RunDir(Path(run_dir)), self.seed)
        self.wer = WordErrorRate()
        self.skipped = SkippedBatches(max_skipped_batches)
        self._phase = self.phases.at(0, 0.0)
        self._step_inputs: list[tuple[Readable, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Load the earlier stages, or the mixture to validate; a checkpoint is loaded after this."""
        run = RunDir(Path(self.hparams["run_dir"]))
        if stage == "fit":
            load_earlier_stages(self.mixture, run.path)
        else:
            self.mixture.load_weights(require_trained(run.mixture_file, "moe"))
            self.mixture.rule = read_config(run.mixture_config_file).rule

    def on_fit_start(self) -> None:
        check_transcripts(self.mixture.experts.backbone, self.trainer)

    def on_train_start(self) -> None:
        """Continue with the soft labels of the resumed weights."""
        log_often_enough(self.trainer)
        self.refinement.resume(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Run a round of refinement, if one is due."""
        self.refinement.begin_epoch(self, self.mixture)

    def on_train_batch_start(self, batch: SpeechBatch, batch_idx: int) -> None:
        seed_step(self.seed, self.current_epoch, batch_idx, self.global_rank)
        self._enter(self.phases.at(self.current_epoch, share_done(self.trainer)))

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the mixture; a step's last micro-batch adds the gate's terms for all of them."""
        readable, base = self.mixture.read(batch)
        losses = self._losses(batch, noisy(self.mixture.gate(readable), self.gate_training.router_noise), base)
        loss = losses.a_token
        if self.skipped.is_usable(batch.ids, loss, losses.sum_B):
            self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
            self._step_inputs.append((readable, batch.soft_labels_BE))
        else:
            loss = nothing_to_learn(self.mixture)
        if self._ends_step(batch_idx) and self._step_inputs:
            loss = loss + self._gate_loss() * self.trainer.accumulate_grad_batches
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.skipped.check_gradient(optimizer, gradient_scale(self.trainer))
        self.log("train/skipped_batches", float(self.skipped.count))

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> dict[str, Any]:
        """Loss, gate entropy, agreement with the soft labels; WER on the first batches.

        Returns:
            ``gate_BE`` and, if the batch was decoded, ``hypotheses``: for the callbacks.
        """
        readable, base = self.mixture.read(batch)
        logits_BE = self.mixture.gate(readable)
        is_same_B = logits_BE.argmax(dim=1) == batch.soft_labels_BE.argmax(dim=1)
        values = {
            "val/loss": self._losses(batch, logits_BE, base).a_token,
            "val/gate_entropy": normalised_entropy(self.mixture.probs(logits_BE)).mean(),
            "val/gate_accuracy": is_same_B.float().mean(),
        }
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(batch.ids))
        hypotheses: list[str] = []
        if is_decoded(batch_idx, self.hparams["max_decoded_batches"]):
            hypotheses = self.mixture.hypotheses(
                batch.waveforms_BL, batch.num_samples_B, batch.languages, logits_BE, base
            ).texts
            self.wer.update(*normalised(hypotheses, batch.texts, batch.languages))
            self.log("val/wer", self.wer, prog_bar=True, batch_size=len(batch.ids))
        return {"gate_BE": self.mixture.gates(logits_BE), "hypotheses": hypotheses}

    def expert_losses(self, batch: SpeechBatch) -> Tensor:
        """``losses_BE`` of every expert alone, nats per token; for the callbacks."""
        return self.mixture.experts.losses_alone(batch)

    def configure_optimizers(self) -> Any:
        gate = {"params": list(self.mixture.gate.parameters())}
        optimizer = self.optimizer([self.mixture.experts.parameter_group(), gate])
        optimizer.param_groups[1]["lr"] *= self.gate_training.lr_factor
        return scheduled(optimizer, self.trainer, self.hparams["num_warmup_steps"], self.hparams["schedule"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        drop_frozen(checkpoint, self)
        checkpoint["refinement_rounds"] = self.refinement.rounds_done
        checkpoint["skipped_batches"] = self.skipped.state()
        checkpoint["phase"] = tuple(self._phase)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.refinement.rounds_done = checkpoint.get("refinement_rounds", 0)
        self.skipped.load_state(checkpoint.get("skipped_batches", {}))
        self._enter(Phase(*checkpoint.get("phase", self._phase)))  # its validation may be due

    def export(self, run: RunDir) -> None:
        """Write the mixture, its gate, its experts as peft folders, and the best scores of the training."""
        mixture, callback = self.mixture, self.trainer.checkpoint_callback
        mixture.save(*run.mixture_files)
        write_state(mixture.gate.state_dict(), run.joint_gate_file)
        num_experts = mixture.config.experts.num_experts
        save_adapters(mixture.experts, mixture.config.whisper_model, run.expert_dirs(num_experts))
        best = getattr(callback, "best_model_score", None)
        scores = {
            "monitor": getattr(callback, "monitor", None),
            "best": None if best is None else round(float(best), 6),
            "epochs": self.trainer.current_epoch,
            "steps": self.trainer.global_step,
            "last_epoch": {name: round(float(value), 6) for name, value in self.trainer.callback_metrics.items()},
        }
        write_json(run.best_file, scores)

    def _losses(self, batch: SpeechBatch, logits_BE: Tensor, base: Frames | None) -> TokenLoss:
        return self.mixture.loss(batch, self.mixture.route(logits_BE), base)

    def _gate_loss(self) -> Tensor:
        """Gate terms for all utterances since the last optimizer step: the gate is small enough to run again."""
        logits_BE = torch.cat([self.mixture.gate(readable) for readable, _ in self._step_inputs])
        soft_labels_BE = torch.cat([labels_BE for _, labels_BE in self._step_inputs])
        self._step_inputs.clear()
        terms = gate_terms(logits_BE, self.mixture.probs(logits_BE), soft_labels_BE, self.gate_training)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(logits_BE))
        self.log("train/gate_temperature", self._phase.temperature, batch_size=len(logits_BE))
        return weighted_sum(terms, self.gate_training, self._phase.pull)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self.mixture.rule = self.mixture.rule._replace(mode=phase.routing, temperature=phase.temperature)

    def _ends_step(self, batch_idx: int) -> bool:
        return (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 or self.trainer.is_last_batch
