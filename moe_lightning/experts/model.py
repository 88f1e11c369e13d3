"""SpeechExperts: one frozen backbone, all experts, any mixture of them in one pass."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moe_lightning.backbone.pooling import pool
from moe_lightning.backbone.speech import Average, Features, Frames, Hypotheses, Pad, SpeechBackbone, TokenLoss
from moe_lightning.backbone.tokens import Targets
from moe_lightning.corpus.spec_augment import SpecAugment
from moe_lightning.experts.gated_lora import ExpertConfig, install_experts


class SpeechExperts(nn.Module):
    """A speech model that every utterance runs with its own mixture of experts.

    Args:
        backbone: Frozen from here on; experts are put into its linear layers.
    """

    def __init__(self, backbone: SpeechBackbone, config: ExpertConfig):
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.layers, self.shares = install_experts(backbone.model, config)
        self.spec_augment: SpecAugment | None = None
        """Of spectrograms in training, where one is set."""

    def encode(self, waveforms_BL: Tensor, num_samples_B: Tensor, gate_NE: Tensor) -> Frames:
        """Encoder frames of each utterance's own mixture.

        Args:
            gate_NE: One row an utterance, or K, for K mixtures of each side by side: the frames then have
                B * K rows, an utterance's one after another.
        """
        spectrograms = self.backbone.features(waveforms_BL, num_samples_B)
        if self.training and self.spec_augment:
            values_BMT = self.spec_augment(spectrograms.values_BMT, spectrograms.num_frames_B)
            spectrograms = spectrograms._replace(values_BMT=values_BMT)
        with self.shares.set(gate_NE):
            return self.backbone.encode(_repeated(spectrograms, len(gate_NE) // len(num_samples_B)))

    def token_loss(
        self, frames: Frames, targets: Targets, gate_NE: Tensor, weights_BK: Tensor | None = None
    ) -> TokenLoss:
        """Cross-entropy of the transcripts under each row's own mixture.

        Args:
            weights_BK: Where the rows are K mixtures of each utterance side by side, the weights that their
                probabilities are averaged with; without them each row has a transcript of its own.
        """
        with self.shares.set(gate_NE):
            return self.backbone.token_loss(frames, targets, weights_BK)

    @torch.no_grad()
    def decode(
        self,
        frames: Frames,
        languages: Sequence[str | None],
        gate_NE: Tensor,
        weights_BK: Tensor | None = None,
        average: Average = "arithmetic",
    ) -> Hypotheses:
        """Transcripts under each row's own mixture; ``weights_BK`` as in `token_loss`."""
        with self.shares.set(gate_NE):
            return self.backbone.decode(frames, languages, weights_BK, average)

    def loss(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        texts: Sequence[str],
        languages: Sequence[str | None],
        gate_BE: Tensor,
    ) -> Tensor:
        """Mean cross-entropy a token over the batch, in nats; a scalar."""
        frames = self.encode(waveforms_BL, num_samples_B, gate_BE)
        loss = self.token_loss(frames, self.backbone.targets(texts, languages), gate_BE)
        return loss.sum_B.sum() / loss.num_tokens_B.sum()

    @torch.no_grad()
    def transcribe(
        self, waveforms_BL: Tensor, num_samples_B: Tensor, languages: Sequence[str | None], gate_BE: Tensor | None
    ) -> list[str]:
        """Greedy transcripts; without gates those of the bare backbone."""
        if gate_BE is None:
            frames = self.backbone.encode(self.backbone.features(waveforms_BL, num_samples_B))
            return self.backbone.decode(frames, languages).texts
        return self.decode(self.encode(waveforms_BL, num_samples_B, gate_BE), languages, gate_BE).texts

    @torch.no_grad()
    def embed(self, waveforms_BL: Tensor, num_samples_B: Tensor, pooling: str, pad: Pad) -> Tensor:
        """Pooled frames of the frozen base encoder, (B, D): what the gate reads, padded as it was for its training."""
        return pool(self.backbone.encode(self.backbone.features(waveforms_BL, num_samples_B, pad)), pooling)

    def expert_state(self) -> dict[str, Tensor]:
        """The stacked deltas of all layers: ``<linear layer>.down_RD`` and ``.up_RD``."""
        return {
            f"{name}.{kind}": getattr(layer, kind).detach().cpu().contiguous()
            for name, layer in self.layers.items()
            for kind in ("down_RD", "up_RD")
        }

    def load_expert_state(self, state: dict[str, Tensor]) -> None:
        """Take over the deltas of `expert_state`.

        Raises:
            ValueError: They are of another backbone, other target modules or another size.
        """
        expected = self.expert_state()
        if state.keys() != expected.keys():
            odd = sorted(state.keys() ^ expected.keys())[0]
            raise ValueError(f"the experts are of another backbone or have other target modules: {odd}")
        for key, tensor in state.items():
            if tensor.shape != expected[key].shape:
                raise ValueError(
                    f"{key} has the shape {tuple(tensor.shape)}, these experts need {tuple(expected[key].shape)}:"
                    " rank, shared_rank or num_experts differ"
                )
            name, _, kind = key.rpartition(".")
            getattr(self.layers[name], kind).data.copy_(tensor)

    def expert_parameters(self) -> list[nn.Parameter]:
        """What training moves."""
        return [parameter for layer in self.layers.values() for parameter in (layer.down_RD, layer.up_RD)]


def _repeated(features: Features, times: int) -> Features:
    """Each utterance so many times, one after another."""
    return features if times == 1 else Features(*(part.repeat_interleave(times, dim=0) for part in features))


def save_experts(experts: SpeechExperts, file: Path) -> None:
    """Write the stacked deltas, and the config that they were trained with."""
    save_file(experts.expert_state(), file, metadata={"experts": json.dumps(asdict(experts.config))})


def load_experts(experts: SpeechExperts, file: Path) -> None:
    """Take over the deltas of `save_experts`.

    Raises:
        ValueError: They were trained with other settings: another alpha would rescale them all.
    """
    with safe_open(file, framework="pt") as tensors:
        then = json.loads((tensors.metadata() or {}).get("experts", "{}"))
    now = json.loads(json.dumps(asdict(experts.config)))
    for name in ("num_experts", "rank", "shared_rank", "alpha", "target_modules"):
        if name in then and then[name] != now[name]:
            raise ValueError(f"{name} was {then[name]} when the experts were pre-trained, now {now[name]}")
    experts.load_expert_state(load_file(file))
