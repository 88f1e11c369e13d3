"""SpeechExperts: one frozen backbone, all experts, any mixture of them in one pass."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from moe_lightning.data.augmentation import SpecAugment
from moe_lightning.data.batches import SpeechBatch
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import Average, Frames, SpeechBackbone, TokenLoss
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Hypotheses
from moe_lightning.models.backbones.tokens import Targets
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.layer_wrapping import checkpoint_layers, compile_layers
from moe_lightning.models.lora import install_experts, mix_of

MAX_ROWS = 64
"""Default number of rows that `SpeechExperts.losses_alone` runs at a time."""


class SpeechExperts(nn.Module):
    """A speech model with a separate mixture of experts for every utterance.

    Args:
        backbone: Frozen from here on; experts are added to its linear layers.
    """

    def __init__(self, backbone: SpeechBackbone, config: ExpertConfig):
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.layers = install_experts(backbone.model, config, backbone.state)
        self.spec_augment: SpecAugment | None = None
        """Applied to training spectrograms, if set."""

    def hide(self, num_freq_masks: int, num_time_masks: int) -> None:
        """Mask so many frequency bands and time spans of each training utterance (SpecAugment); 0 and 0 for none."""
        if num_freq_masks or num_time_masks:
            self.spec_augment = SpecAugment(num_freq_masks, num_time_masks=num_time_masks)

    def speed_up(self, compile: bool = False, gradient_checkpointing: bool = False) -> None:
        """Trade time and memory; losses and gradients stay the same.

        Args:
            compile: Compile each encoder and decoder layer when it first runs.
            gradient_checkpointing: Keep a layer's input only, and run the layer again for its gradient.
        """
        if compile:
            compile_layers(self.backbone.model)
        if gradient_checkpointing:
            checkpoint_layers(self.backbone)

    def gated(self, gate_NE: Tensor) -> AbstractContextManager[None]:
        """Context in which every layer mixes its experts by these gates (the shared expert counts in full)."""
        return self.backbone.state.holding(mix=mix_of(gate_NE, self.config))

    def encode(
        self, waveforms_BL: Tensor, num_samples_B: Tensor, gate_NE: Tensor, base: Frames | None = None
    ) -> Frames:
        """Encoder frames of each utterance's own mixture.

        Args:
            gate_NE: One row per utterance, or K for K mixtures of each side by side: the frames then have
                B * K rows, an utterance's one after another.
            base: From `base_frames`, if already computed.
        """
        return self.adapt(self.base_frames(waveforms_BL, num_samples_B) if base is None else base, gate_NE)

    def base_frames(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> Frames:
        """Input of the first encoder layer with experts: from the frozen base alone, for any gates."""
        return self.base_layers(waveforms_BL, num_samples_B, ())[1]

    def base_layers(self, waveforms_BL: Tensor, num_samples_B: Tensor, layers: Sequence[int]) -> tuple[Frames, Frames]:
        """Frames of some lower layers, joined along D, plus `base_frames`, in one pass.

        Args:
            layers: Rising, none above the first one with experts.
        """
        features = self.backbone.features(waveforms_BL, num_samples_B)
        if self.training and self.spec_augment:
            values_BMT = self.spec_augment(features.values_BMT, features.num_frames_B)
            features = features._replace(values_BMT=values_BMT)
        frames, done, found = self.backbone.stem(features), 0, []
        for layer in layers:
            frames, done = self.backbone.run_layers(frames, done, layer), layer
            found.append(frames.values_BTD)
        base = self.backbone.run_layers(frames, done, self.config.adapt_from_layer)
        return (frames._replace(values_BTD=torch.cat(found, dim=-1)) if found else frames), base

    def adapt(self, frames: Frames, gate_NE: Tensor) -> Frames:
        """Encoder frames of each utterance's own mixture, from `base_frames`."""
        num_side_by_side, left = divmod(len(gate_NE), len(frames.num_frames_B))
        assert not left, f"{len(gate_NE)} gates for {len(frames.num_frames_B)} utterances"
        if num_side_by_side > 1:
            frames = frames.repeated(num_side_by_side)
        with self.gated(gate_NE):
            return self.backbone.run_layers(frames, self.config.adapt_from_layer)

    def token_loss(
        self, frames: Frames, targets: Targets, gate_NE: Tensor, weights_BK: Tensor | None = None
    ) -> TokenLoss:
        """Cross-entropy of the transcripts under each row's own mixture.

        Args:
            weights_BK: If the rows are K mixtures per utterance side by side, the averaging weights of their
                probabilities; without them each row has its own transcript.
        """
        with self.gated(gate_NE):
            return self.backbone.token_loss(frames, targets, weights_BK)

    @torch.no_grad()
    def decode(
        self,
        frames: Frames,
        languages: Sequence[str | None],
        gate_NE: Tensor,
        weights_BK: Tensor | None = None,
        average: Average = "arithmetic",
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Transcripts under each row's own mixture; ``weights_BK`` as in `token_loss`."""
        with self.gated(gate_NE):
            return self.backbone.decode(frames, languages, weights_BK, average, options)

    def loss(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        texts: Sequence[str],
        languages: Sequence[str | None],
        gate_BE: Tensor,
    ) -> Tensor:
        """Mean cross-entropy per token over the batch, in nats; a scalar."""
        loss = self.losses(waveforms_BL, num_samples_B, texts, languages, gate_BE)
        return loss.sum_B.sum() / loss.num_tokens_B.sum()

    def losses(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        texts: Sequence[str],
        languages: Sequence[str | None],
        gate_NE: Tensor,
        base: Frames | None = None,
    ) -> TokenLoss:
        """Cross-entropy of each gate row: one per utterance, or K side by side, each with its own loss.

        Args:
            base: From `base_frames`, if already computed.
        """
        frames = self.encode(waveforms_BL, num_samples_B, gate_NE, base)
        utterances = [row for row in range(len(texts)) for _ in range(len(gate_NE) // len(texts))]
        targets = self.backbone.targets([texts[row] for row in utterances], [languages[row] for row in utterances])
        return self.token_loss(frames, targets, gate_NE)

    @torch.no_grad()
    def losses_alone(self, batch: SpeechBatch, max_rows: int = MAX_ROWS) -> Tensor:
        """``losses_BE``: loss of each utterance's transcript under every expert alone, nats per token, float32.

        Without dropout and SpecAugment, in any mode of the experts.

        Args:
            max_rows: Most utterances times experts side by side (one expert always runs): bounds the memory.
        """
        num_utterances, num_experts = len(batch.ids), self.config.num_experts
        num_at_once = max(1, max_rows // num_utterances)
        parts = []
        with evaluating(self):
            base = self.base_frames(batch.waveforms_BL, batch.num_samples_B)  # once for all
            for one_hot_CE in torch.eye(num_experts, device=batch.waveforms_BL.device).split(num_at_once):
                gate_NE = one_hot_CE.repeat(num_utterances, 1)
                losses = self.losses(
                    batch.waveforms_BL, batch.num_samples_B, batch.texts, batch.languages, gate_NE, base
                )
                parts.append((losses.sum_B / losses.num_tokens_B).unflatten(0, (num_utterances, -1)))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def transcribe(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        languages: Sequence[str | None],
        gate_BE: Tensor | None,
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Transcripts; without gates those of the bare backbone, over its training window."""
        if gate_BE is None:
            return self.backbone.decode(self.bare_frames(waveforms_BL, num_samples_B), languages, options=options)
        frames = self.encode(waveforms_BL, num_samples_B, gate_BE)
        return self.decode(frames, languages, gate_BE, options=options)

    def bare_frames(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> Frames:
        """Encoder frames of the bare backbone, over its training window."""
        features = self.backbone.features(waveforms_BL, num_samples_B, self.backbone.own_window)
        return self.backbone.encode(features)

    @torch.no_grad()
    def detect_language(self, waveforms_1L: Tensor, num_samples_1: Tensor) -> str | None:
        """Code of the language detected by the bare backbone; its only language, or None, if it detects none."""
        backbone = self.backbone
        if backbone.only_language or not backbone.detects_languages:
            return backbone.only_language
        return backbone.detect_languages(self.bare_frames(waveforms_1L, num_samples_1))[0].language

    def expert_state(self) -> dict[str, Tensor]:
        """The stacked deltas of all layers: ``<linear layer>.down_RD`` and ``.up_RD``."""
        return {
            f"{name}.{kind}": getattr(layer, kind).detach().cpu().contiguous()
            for name, layer in self.layers.items()
            for kind in ("down_RD", "up_RD")
        }

    def load_expert_state(self, state: dict[str, Tensor]) -> None:
        """Load the deltas of `expert_state`.

        Raises:
            InputError: They belong to another backbone, other target modules or another size.
        """
        expected = self.expert_state()
        if state.keys() != expected.keys():
            odd = sorted(state.keys() ^ expected.keys())[0]
            raise InputError(
                "experts.unfit",
                f"the experts are of another backbone or have other target modules: {odd} is in one of the two only;"
                " ask for the speech model and target_modules that they were trained with",
                odd,
            )
        for key, tensor in state.items():
            if tensor.shape != expected[key].shape:
                raise InputError(
                    "experts.unfit",
                    f"{key} has the shape {tuple(tensor.shape)}, these experts need {tuple(expected[key].shape)}:"
                    " rank, shared_rank or num_experts differ, or the backbone is of another size",
                    key,
                )
        for key, tensor in state.items():
            name, _, kind = key.rpartition(".")
            getattr(self.layers[name], kind).data.copy_(tensor)

    def expert_parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [parameter for layer in self.layers.values() for parameter in (layer.down_RD, layer.up_RD)]

    def parameter_group(self) -> dict[str, Any]:
        """The trained parameters and their rows per expert, for `ExpertAdamW`; other optimizers ignore the rows."""
        return {
            "params": self.expert_parameters(),
            "rank": self.config.rank,
            "shared_rank": self.config.shared_rank,
        }


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context with every part of a module in evaluation mode; afterwards each returns to its own mode."""
    was_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in was_training:
            part.training = True
