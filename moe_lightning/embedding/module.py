"""EmbeddingModule: pooled encoder frames by `Trainer.predict`."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from moe_lightning.backbone.loading import load_backbone
from moe_lightning.backbone.pooling import pool
from moe_lightning.backbone.speech import Pad
from moe_lightning.batch import AudioBatch


class EmbeddingModule(LightningModule):
    """The frozen backbone; collects the embeddings of the utterances that its rank is given.

    Args:
        whisper_model: v2, v3, nano, a hub id or a folder.
        pooling: ``mean``, ``mean+std``, ``flatten`` or ``none``, see `pool`.
        pad: ``batch`` computes real frames only, ``30s`` the classical window.
    """

    def __init__(self, whisper_model: str, pooling: str = "mean", pad: Pad = "batch"):
        super().__init__()
        self.backbone = load_backbone(whisper_model, pad).eval()
        self.pooling = pooling
        self.rows: list[Tensor] = []
        self.embeddings: list[Tensor] = []

    def predict_step(self, batch: AudioBatch, batch_idx: int) -> None:
        """Keep the embeddings on the CPU, float32."""
        frames = self.backbone.encode(self.backbone.features(*batch.waveforms))
        self.rows.append(batch.rows_B.cpu())
        self.embeddings.append(pool(frames, self.pooling).cpu())

    def collected(self) -> tuple[Tensor, Tensor]:
        """Rows (n,) and embeddings (n, D) of this rank, in the order they were computed."""
        return torch.cat(self.rows), torch.cat(self.embeddings)
