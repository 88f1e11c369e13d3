"""MoEASRModule: gate and experts trained together."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics.text import WordErrorRate

from moe_lightning.backbone.normaliser import normalised
from moe_lightning.backbone.speech import Frames, TokenLoss
from moe_lightning.backbone.window import REAL
from moe_lightning.batch import SpeechBatch
from moe_lightning.experts.optimizer import ExpertAdamW
from moe_lightning.gating.model import normalised_entropy
from moe_lightning.gating.reading import GateInput, GateKind, Readable
from moe_lightning.moe.export import export
from moe_lightning.moe.gate_loss import GateWeights, gate_terms, noisy, weighted_sum
from moe_lightning.moe.mixing import check_ability, expert_losses
from moe_lightning.moe.model import MixtureASR, MixtureConfig
from moe_lightning.moe.refinement import Refinement
from moe_lightning.moe.refinement_round import RefineBy, RefinementPlan
from moe_lightning.moe.routing import RoutingMode
from moe_lightning.moe.schedule import Phase, RoutingSchedule
from moe_lightning.moe.stages_before import load_stages_before
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import require_trained
from moe_lightning.store.embedding_store import Pooling
from moe_lightning.training.checkpointing import drop_frozen, is_decoded, seed_step
from moe_lightning.training.optimization import Schedule, log_often_enough, scheduled, share_done
from moe_lightning.training.skipped_batches import SkippedBatches, gradient_scale, nothing_to_learn
from moe_lightning.transcripts import check_transcripts


class MoEASRModule(LightningModule):
    """Cross-entropy of the mixture plus the load-balancing loss; starts from the trained gate and experts.

    Args:
        num_experts: Columns of the soft labels; comes from the clustering.
        embedding_dim: Size of the embeddings; comes from their store.
        pooling: Pooling of the embeddings; comes from their store.
        embedding_window: Window of the embeddings in seconds; comes from their store.
        window: Minimum input of the recogniser in seconds; comes from the pre-trained experts.
        embedding_layer: Encoder layers of the embeddings; comes from their store.
        run_dir: Run folder, with gate and experts from the earlier stages.
        whisper_model: v2, v3, nano, a hub id or a folder.
        rank: As the experts were pre-trained; so are alpha, dropout, shared_rank, target_modules,
            adapt_from_layer, rslora and noop_expert.
        hidden_dim: As the gate was trained; so are gate and gate_layers.
        gate: ``mlp``, or ``attentive``: attention over encoder layers and frames.
        gate_input: ``cached``: from the store (with frames, for ``attentive``); ``live``: from the frozen
            encoder, in one pass with the experts if the gate's layers lie below them.
        gate_layers: Encoder layers for a live gate; those of the store by default.
        routing: ``merge`` (all experts by the gate), ``top_k`` or ``hard`` run in one pass; ``posterior``,
            ``confidence`` or ``loss`` run the K likeliest experts side by side and cost K times as much.
            The same in training and decoding.
        top_k: Experts kept by all modes but ``merge`` and ``hard``.
        routing_schedule: Earlier modes, each with its number of epochs: [merge:2]. Validation uses its
            epoch's mode, and the best epoch's weights are decoded in their training mode.
        gate_temperature: Divides the gate's logits; lower is harder.
        gate_temperature_start: Initial temperature; it moves to ``gate_temperature`` in equal factors over
            the training. None: it is constant.
        router_noise: Standard deviation of the normal noise on the gate's logits, in training only.
        min_expert_prob: Minimum probability of each expert before the routing keeps some; under
            1 / num_experts.
        balance_weight: Weight of the load-balancing loss.
        z_weight: Weight of the gate's squared log-sum-exp; 0.001 is usual.
        entropy_weight: Weight of the bonus for the gate's normalised entropy.
        pull_weight: Weight, at the start, of the gate's divergence from the soft labels.
        pull_until: Share of the training over which that weight falls linearly to zero.
        gate_lr_factor: The gate's learning rate over the experts'; at rates suited to LoRA, a trained gate
            would forget the clusters.
        schedule: Learning rate after the warm-up: ``constant``, ``linear`` or ``cosine``.
        num_warmup_steps: Steps of linear warm-up.
        max_decoded_batches: Dev batches decoded for the WER in each validation; all by default. If the WER
            selects the best epoch, a part of the split makes the choice noisy.
        num_freq_masks: Frequency bands masked by SpecAugment in each training utterance; 0 for none.
        num_time_masks: Time spans masked by SpecAugment; each a twentieth of the utterance at most.
        refine_rounds: Epochs, evenly spread from the first on, that begin with a refinement: utterances go
            to the experts with the lowest loss on them, and the gate is refitted to that; see `Refinement`.
        refine_temperature: Advantage in nats per token that makes an expert count e times more.
        refine_balance: 0 leaves the experts their own shares of the corpus, 1 makes the shares equal.
        refine_by: Assigned unit: an ``utterance``, or all utterances by a ``speaker``, judged from some.
        refine_per_speaker: Most utterances by one speaker to judge from.
        max_skipped_batches: Batches without a finite loss or gradient that are skipped before the training
            ends with an error.
        compile: Compile the layers; the first step takes a minute or more.
        gradient_checkpointing: Run layers again in the backward pass instead of storing their results.
    """

    def __init__(
        self,
        num_experts: int,
        embedding_dim: int,
        pooling: Pooling = "mean",
        embedding_window: float = REAL,
        window: float = REAL,
        embedding_layer: str = "last",
        run_dir: str = "lightning_logs/full",
        whisper_model: str = "v2",
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.05,
        shared_rank: int = 0,
        target_modules: tuple[str, ...] = ("q_proj", "v_proj"),
        adapt_from_layer: int = 0,
        rslora: bool = False,
        noop_expert: bool = False,
        hidden_dim: int = 512,
        gate: GateKind = "mlp",
        gate_input: GateInput = "cached",
        gate_layers: str | None = None,
        routing: RoutingMode = "top_k",
        top_k: int = 2,
        routing_schedule: tuple[str, ...] = (),
        gate_temperature: float = 1.0,
        gate_temperature_start: float | None = None,
        router_noise: float = 0.0,
        min_expert_prob: float = 0.0,
        balance_weight: float = 0.01,
        z_weight: float = 0.0,
        entropy_weight: float = 0.0,
        pull_weight: float = 0.0,
        pull_until: float = 1.0,
        gate_lr_factor: float = 1.0,
        schedule: Schedule = "constant",
        num_warmup_steps: int = 0,
        max_decoded_batches: int | None = None,
        num_freq_masks: int = 0,
        num_time_masks: int = 0,
        refine_rounds: int = 0,
        refine_temperature: float = 0.1,
        refine_balance: float = 1.0,
        refine_by: RefineBy = "utterance",
        refine_per_speaker: int = 8,
        max_skipped_batches: int = 20,
        compile: bool = False,
        gradient_checkpointing: bool = False,
        optimizer: OptimizerCallable = ExpertAdamW,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="optimizer")
        self.strict_loading = False  # checkpoints leave out the frozen backbone
        self.optimizer = optimizer
        self.seed = torch.initial_seed()  # as seed_everything set it
        self.weights = GateWeights(balance_weight, z_weight, entropy_weight, pull_weight, router_noise)
        self.phases = RoutingSchedule(
            routing, tuple(routing_schedule), gate_temperature, gate_temperature_start, pull_until
        )
        self.mixture = MixtureASR(MixtureConfig.of(self.hparams))
        for mode in self.phases.modes:
            check_ability(self.mixture.experts.backbone, mode)
        self.mixture.experts.hide(num_freq_masks, num_time_masks)
        self.mixture.experts.speed_up(compile, gradient_checkpointing)
        plan = RefinementPlan(refine_rounds, refine_temperature, refine_balance, refine_by, refine_per_speaker)
        self.refinement = Refinement(plan, RunDir(Path(run_dir)), self.seed)
        self.wer = WordErrorRate()
        self.skipped = SkippedBatches(max_skipped_batches)
        self._phase = self.phases.at(0, 0.0)
        self._window: list[tuple[Readable, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Load the earlier stages, or the mixture to validate; a checkpoint is loaded after this."""
        run = RunDir(Path(self.hparams["run_dir"]))
        if stage == "fit":
            load_stages_before(self.mixture, run)
        else:
            require_trained(run.mixture_file, "moe")
            self.mixture.load_weights(run)

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
        losses = self._losses(batch, noisy(self.mixture.gate(readable), self.weights.noise), base)
        loss = losses.a_token
        if self.skipped.is_usable(batch.ids, loss, losses.sum_B):
            self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
            self._window.append((readable, batch.soft_labels_BE))
        else:
            loss = nothing_to_learn(self.mixture)
        if self._ends_step(batch_idx) and self._window:
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
            hypotheses = self.mixture.transcribe(*batch[1:3], batch.languages, logits_BE, base)
            self.wer.update(*normalised(hypotheses, batch.texts, batch.languages))
            self.log("val/wer", self.wer, prog_bar=True, batch_size=len(batch.ids))
        return {"gate_BE": self.mixture.gates(logits_BE), "hypotheses": hypotheses}

    def expert_losses(self, batch: SpeechBatch) -> Tensor:
        """``losses_BE`` of every expert alone, nats per token; for the callbacks."""
        return expert_losses(self.mixture.experts, batch)

    def configure_optimizers(self) -> Any:
        gate = {"params": list(self.mixture.gate.parameters())}
        optimizer = self.optimizer([self.mixture.experts.parameter_group(), gate])
        optimizer.param_groups[1]["lr"] *= self.hparams["gate_lr_factor"]
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
        """Write the mixture, its gate, its experts as peft folders, and the best scores."""
        export(self.mixture, self.trainer, run)

    def _losses(self, batch: SpeechBatch, logits_BE: Tensor, base: Frames | None) -> TokenLoss:
        return self.mixture.loss(batch, self.mixture.choose(logits_BE), base)

    def _gate_loss(self) -> Tensor:
        """Gate terms for all utterances since the last optimizer step: the gate is small enough to run again."""
        logits_BE = torch.cat([self.mixture.gate(readable) for readable, _ in self._window])
        soft_labels_BE = torch.cat([labels_BE for _, labels_BE in self._window])
        self._window.clear()
        terms = gate_terms(logits_BE, self.mixture.probs(logits_BE), soft_labels_BE, self.weights)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(logits_BE))
        self.log("train/gate_temperature", self._phase.temperature, batch_size=len(logits_BE))
        return weighted_sum(terms, self.weights, self._phase.pull)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self.mixture.set_phase(phase.routing, phase.temperature)

    def _ends_step(self, batch_idx: int) -> bool:
        return (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 or self.trainer.is_last_batch
