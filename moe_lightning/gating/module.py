"""GatingModule: train the gate on the soft labels from the clustering."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from moe_lightning.data.batches import GateBatch, SpeechBatch
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.window import REAL, window_words
from moe_lightning.models.gate import AttentiveGate, FrozenEncoder, GateConfig, GateInput, GateKind, Readable, load_gate
from moe_lightning.models.routing import normalised_entropy, soft_label_divergence
from moe_lightning.models.weights import read_state, write_state
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import require_trained
from moe_lightning.settings.embedding import Pooling
from moe_lightning.system.json_files import write_json
from moe_lightning.training.optimizer import adamw, log_often_enough
from moe_lightning.training.skipped_batches import SkippedBatches, gradient_scale, nothing_to_learn


class GatingModule(LightningModule):
    """The gate alone, on stored embeddings or frames, or on the live encoder.

    Args:
        num_experts: Columns of the soft labels; comes from the clustering.
        embedding_dim: Size of the embeddings; comes from their store.
        pooling: Pooling of the embeddings; comes from their store.
        embedding_window: Window of the embeddings in seconds; comes from their store.
        embedding_layer: Encoder layers of the embeddings; comes from their store.
        whisper_model: The model that made the embeddings, checked against the store.
        run_dir: Folder of the run; `validate` loads the trained gate from it.
        hidden_dim: Width of the gate's hidden layer.
        gate: ``mlp``: two layers on the pooled embedding; ``attentive``: with attention over encoder layers and
            frames first.
        gate_input: ``cached``: from the store, which for ``attentive`` must hold frames; ``live``: from audio, by the
            frozen encoder.
        gate_layers: Encoder layers for a live gate, such as ``2,4,last``; default: those of the store.
        max_skipped_batches: Batches without a finite loss or gradient that are skipped before the training ends with
            an error.
        optimizer: Its class, with arguments under ``init_args``: ``lr``, ``weight_decay``.
    """

    def __init__(
        self,
        num_experts: int,
        embedding_dim: int,
        pooling: Pooling = "mean",
        embedding_window: float = REAL,
        embedding_layer: str = "last",
        whisper_model: str = "v2",
        run_dir: str = "lightning_logs/full",
        hidden_dim: int = 512,
        gate: GateKind = "mlp",
        gate_input: GateInput = "cached",
        gate_layers: str | None = None,
        max_skipped_batches: int = 20,
        optimizer: OptimizerCallable = adamw,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="optimizer")
        self.optimizer = optimizer
        self.config = GateConfig(
            num_experts=num_experts,
            embedding_dim=embedding_dim,
            pooling=pooling,
            window=embedding_window,
            embedding_layer=embedding_layer,
            kind=gate,
            source=gate_input,
            layers=gate_layers,
            hidden_dim=hidden_dim,
        )
        self.gate = self.config.build()
        self.skipped = SkippedBatches(max_skipped_batches)
        self.encoder: FrozenEncoder | None = None
        if gate_input == "live":
            self.encoder = FrozenEncoder(load_backbone(whisper_model, window_words(embedding_window)), self.config)

    def forward(self, readable: Readable) -> Tensor:
        """``probs_BE`` from embeddings, or from frames for an attentive gate."""
        return self.gate(readable).softmax(dim=1)

    def read(self, batch: GateBatch | SpeechBatch) -> Readable:
        """Input of the gate for a batch."""
        if self.encoder is not None and isinstance(batch, SpeechBatch):
            return self.encoder.read(batch.waveforms_BL, batch.num_samples_B)
        return self.config.cached(batch)

    def setup(self, stage: str) -> None:
        """Load the trained gate for validation; a checkpoint is loaded later."""
        if stage != "fit":
            gate_file = require_trained(RunDir(Path(self.hparams["run_dir"])).gate_file, "gating")
            load_gate(self.gate, read_state(gate_file, "python -m moe_lightning.gating fit"), gate_file)

    def on_fit_start(self) -> None:
        """Standardise by training utterances; a resumed gate already is."""
        if self.trainer.ckpt_path is None:
            self._standardise()

    def on_train_start(self) -> None:
        log_often_enough(self.trainer)

    def training_step(self, batch: GateBatch | SpeechBatch, batch_idx: int) -> Tensor:
        """KL divergence from the soft labels."""
        loss = soft_label_divergence(self.gate(self.read(batch)), batch.soft_labels_BE)
        ids = batch.ids if isinstance(batch, SpeechBatch) else [f"batch {batch_idx} of epoch {self.current_epoch}"]
        if not self.skipped.is_usable(ids, loss):
            return nothing_to_learn(self.gate)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.soft_labels_BE))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.skipped.check_gradient(optimizer, gradient_scale(self.trainer))
        self.log("train/skipped_batches", float(self.skipped.count))

    def validation_step(self, batch: GateBatch | SpeechBatch, batch_idx: int) -> None:
        """Divergence, agreement on the most likely expert, entropy."""
        logits_BE = self.gate(self.read(batch))
        is_same_B = logits_BE.argmax(dim=1) == batch.soft_labels_BE.argmax(dim=1)
        values = {
            "val/loss": soft_label_divergence(logits_BE, batch.soft_labels_BE),
            "val/accuracy": is_same_B.float().mean(),
            "val/entropy": normalised_entropy(logits_BE.softmax(dim=1)).mean(),
        }
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(batch.soft_labels_BE))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["skipped_batches"] = self.skipped.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped.load_state(checkpoint.get("skipped_batches", {}))

    def export(self, run: RunDir) -> None:
        """Write the gate for the joint stage, with its settings and metrics."""
        write_state(self.gate.state_dict(), run.gate_file)
        metrics = {name: round(float(value), 6) for name, value in self.trainer.callback_metrics.items()}
        write_json(run.gate_config_file, {**dict(self.hparams), "metrics": metrics})

    def _standardise(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.config.kind == "mlp" and self.config.source == "cached":
            self.gate.standardise(data.train_embeddings_ND)
            return
        device = self.trainer.strategy.root_device
        self.gate.to(device)
        readables = _Readables(self, data.standardising_batches())
        if isinstance(self.gate, AttentiveGate):
            self.gate.standardise(readables)
        else:
            self.gate.standardise(torch.cat(list(readables)))


@dataclass(frozen=True)
class _Readables:
    """Gate inputs of batches, computed anew in each iteration."""

    module: GatingModule
    batches: Iterable[GateBatch | SpeechBatch]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield self.module.read(self.module.trainer.strategy.batch_to_device(batch))
