"""GatingModule: train the gate on the soft labels of the clustering."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from moe_lightning.batch import GateBatch
from moe_lightning.gating.model import Gate, normalised_entropy, soft_label_divergence
from moe_lightning.json_files import write_json
from moe_lightning.optimization import adamw
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import require_trained


class GatingModule(LightningModule):
    """The gate alone, on cached embeddings.

    Args:
        num_experts: Columns of the soft labels; comes from the clustering.
        embedding_dim: Size of the embeddings; comes from their store.
        whisper_model: The model that made the embeddings, checked against the store.
        run_dir: Folder of the run; `validate` takes the trained gate from it.
        hidden_dim: Width of the gate's hidden layer.
    """

    def __init__(
        self,
        num_experts: int,
        embedding_dim: int,
        whisper_model: str = "v2",
        run_dir: str = "lightning_logs/full",
        hidden_dim: int = 512,
        optimizer: OptimizerCallable = adamw,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="optimizer")
        self.optimizer = optimizer
        self.gate = Gate(embedding_dim, num_experts, hidden_dim)

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """``probs_BE`` of embeddings."""
        return self.gate(embeddings_BD).softmax(dim=1)

    def setup(self, stage: str) -> None:
        """Standardise by the training embeddings, or take the trained gate; a checkpoint is loaded after this."""
        if stage == "fit":
            self.gate.standardise(self.trainer.datamodule.train_embeddings_ND)  # type: ignore[attr-defined]
        else:
            gate_file = require_trained(RunDir(Path(self.hparams["run_dir"])).gate_file, "gating")
            self.gate.load_state_dict(torch.load(gate_file, map_location="cpu", weights_only=True))

    def training_step(self, batch: GateBatch, batch_idx: int) -> Tensor:
        """KL divergence from the soft labels."""
        loss = soft_label_divergence(self.gate(batch.embeddings_BD), batch.soft_labels_BE)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.embeddings_BD))
        return loss

    def validation_step(self, batch: GateBatch, batch_idx: int) -> None:
        """Divergence, agreement of the likeliest expert, entropy."""
        logits_BE = self.gate(batch.embeddings_BD)
        is_same_B = logits_BE.argmax(dim=1) == batch.soft_labels_BE.argmax(dim=1)
        values = {
            "val/loss": soft_label_divergence(logits_BE, batch.soft_labels_BE),
            "val/accuracy": is_same_B.float().mean(),
            "val/entropy": normalised_entropy(logits_BE.softmax(dim=1)).mean(),
        }
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=len(batch.embeddings_BD))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def export(self, run: RunDir) -> None:
        """Write the gate for the joint stage, and what it was trained with."""
        run.gate_file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.gate.state_dict(), run.gate_file)
        metrics = {name: round(float(value), 6) for name, value in self.trainer.callback_metrics.items()}
        write_json(run.gate_config_file, {**dict(self.hparams), "metrics": metrics})
