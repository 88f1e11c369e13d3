"""EmbeddingModule: pooled encoder frames by `Trainer.predict`."""

from lightning.pytorch import LightningModule

from moe_lightning.data.batches import AudioBatch, EmbeddedBatch
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.pooling import LAST, layer_frames, layers_text, parse_layers, pool
from moe_lightning.models.backbones.window import Window


class EmbeddingModule(LightningModule):
    """The frozen backbone.

    Args:
        whisper_model: v2, v3, nano, a hub id or a folder.
        pooling: ``mean``, ``mean+std``, ``flatten`` or ``none``, see `pool`.
        window: Minimum seconds that the encoder reads: ``auto``, ``real`` or a number; real frames are pooled.
        embedding_layer: Encoder layers to join, see `parse_layers`.

    Raises:
        InputError: There is no such model, or no such layer.
    """

    def __init__(self, whisper_model: str, pooling: str = "mean", window: Window = "auto", embedding_layer: str = LAST):
        super().__init__()
        self.backbone = load_backbone(whisper_model, window).eval()
        self.layers = parse_layers(embedding_layer, self.backbone.num_layers)
        self.pooling = pooling
        self.batch: AudioBatch | None = None
        """The current batch, for the out-of-memory message."""

    @property
    def embedding_layer(self) -> str:
        """The layers in canonical notation."""
        return layers_text(self.layers, self.backbone.num_layers)

    def predict_step(self, batch: AudioBatch, batch_idx: int) -> EmbeddedBatch:
        """Embeddings of a batch, float32, and the frames behind them."""
        self.batch = batch
        frames = layer_frames(self.backbone, self.backbone.features(*batch.waveforms), self.layers)
        return EmbeddedBatch(pool(frames, self.pooling), frames.values_BTD, frames.num_frames_B)
