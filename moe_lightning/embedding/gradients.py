"""GradientModule: loss gradients of training utterances at their encoder frames, by `Trainer.predict`."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from moe_lightning.data.batches import AudioBatch, EmbeddedBatch
from moe_lightning.models.backbones.base import Frames, SpeechBackbone


class GradientModule(LightningModule):
    """The frozen backbone, with the gradient of each transcript's loss at the utterance's frames.

    All frames of an utterance are multiplied by a scale and moved by a shift, D numbers each. The loss per token is
    differentiated with respect to both, at scale 1 and shift 0. Utterances with similar gradients would change a
    model in a similar way, and an expert serves such a group. A voice that the model already recognises well leaves
    no trace in the gradients. Backpropagation runs only through the reader of the frames: the decoder, or the head of
    a CTC model.

    Args:
        backbone: This class freezes it.
    """

    def __init__(self, backbone: SpeechBackbone):
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.batch: AudioBatch | None = None
        """The current batch, for the out-of-memory message."""

    def predict_step(self, batch: AudioBatch, batch_idx: int) -> EmbeddedBatch:
        """Gradients for the scale, then for the shift, (B, 2 * D), float32, as the embeddings of a batch."""
        self.batch = batch
        frames = self.backbone.encode(self.backbone.features(*batch.waveforms))
        frames = frames._replace(values_BTD=frames.values_BTD.float())
        with torch.autocast(self.device.type, enabled=False):  # float16 would lose small gradients
            gradients_BG = frame_gradients(self.backbone, frames, batch.texts, batch.languages)
        return EmbeddedBatch(gradients_BG, frames.values_BTD, frames.num_frames_B)


def frame_gradients(backbone: SpeechBackbone, frames: Frames, texts: list[str], languages: list[str | None]) -> Tensor:
    """Gradient of each utterance's loss per token with respect to a scale and a shift of its frames, (B, 2 * D).

    It is zero if a CTC model has too few frames for the transcript: the loss is then 0.
    """
    num_utterances, _, dim = frames.values_BTD.shape
    with torch.inference_mode(False), torch.enable_grad():
        scale_B1D = frames.values_BTD.new_ones(num_utterances, 1, dim).requires_grad_()
        shift_B1D = frames.values_BTD.new_zeros(num_utterances, 1, dim).requires_grad_()
        moved_BTD = frames.values_BTD * scale_B1D + shift_B1D
        moved_BTD = torch.where(frames.is_real_BT[..., None], moved_BTD, frames.values_BTD)  # not the window's silence
        moved = frames._replace(values_BTD=moved_BTD)
        loss = backbone.token_loss(moved, backbone.targets(texts, languages))
        gradients = torch.autograd.grad((loss.sum_B / loss.num_tokens_B).sum(), (scale_B1D, shift_B1D))
    return torch.cat(gradients, dim=2).squeeze(1)
