"""The gate: from an utterance's embedding to a distribution over the experts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.data.batches import GateBatch, SpeechBatch
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import Frames, SpeechBackbone
from moe_lightning.models.backbones.pooling import layer_frames, parse_layers, pool
from moe_lightning.models.backbones.window import REAL
from moe_lightning.settings.embedding import Pooling


class Gate(nn.Module):
    """Linear-ReLU-Linear on the standardised embedding.

    Raw Whisper embeddings differ in a few large dimensions unrelated to the speaker. So each dimension is first
    scaled to mean 0 and deviation 1 over the training embeddings.

    Args:
        embedding_dim: D of the pooled embeddings.
        num_experts: E.
        hidden_dim: Width of the hidden layer.

    Raises:
        InputError: ``hidden_dim`` is not positive.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, embedding_dim: int, num_experts: int, hidden_dim: int = 512):
        super().__init__()
        if hidden_dim < 1:
            raise InputError(
                "setting.range", f"hidden_dim must be at least 1, got {hidden_dim}", f"hidden_dim={hidden_dim}"
            )
        self.register_buffer("mean_D", torch.zeros(embedding_dim))
        self.register_buffer("std_D", torch.ones(embedding_dim))
        self.hidden = nn.Linear(embedding_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, num_experts)

    def standardise(self, embeddings_ND: Tensor) -> None:
        """Set mean and deviation from training embeddings; a constant dimension keeps deviation 1."""
        self.mean_D.copy_(embeddings_ND.mean(dim=0))
        std_D = embeddings_ND.std(dim=0, correction=0)
        self.std_D.copy_(torch.where(std_D > 1e-6, std_D, torch.ones_like(std_D)))

    @property
    def head(self) -> "Gate":
        """Network from a pooled vector to logits: here the whole gate."""
        return self

    def pool(self, embeddings_BD: Tensor) -> Tensor:
        """Input of the head: here the embedding itself."""
        return embeddings_BD

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """``logits_BE``, always float32, even in mixed-precision training."""
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            standard_BD = (embeddings_BD.float() - self.mean_D) / self.std_D
            return self.output(F.relu(self.hidden(standard_BD)))


def load_gate(gate: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Load the weights of a trained gate, read from ``file``.

    Raises:
        InputError: It has another size or kind.
    """
    own = gate.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found, wanted = (tuple(one[name].shape) if name in one else None for one in (state, own))
        if found != wanted:
            raise InputError(
                "gate.unfit",
                f"the gate in {file} does not fit: {name} is {found or 'missing'} there, {wanted or 'not used'} here;"
                " its number of experts, embeddings, hidden_dim or kind differ: give it the settings and the soft"
                " labels that it was trained with",
                name,
            )
    gate.load_state_dict(state)


class AttentiveGate(nn.Module):
    """Learned weights for encoder layers, attentive statistics pooling over real frames, then the two-layer head.

    The layers' frames are joined along D and standardised, so that the softmax weights compare like with like. Each
    frame then gets a scalar weight; the head reads mean and standard deviation under these weights (Okabe et al.
    2018, arXiv:1803.10963, section 3). Initially all weights are equal: plain statistics of the mean layer.

    Args:
        frame_dim: D of joined frames: number of layers times the size of an encoder frame.
        num_layers: Number of layers joined in a frame.
        num_experts: E.
        hidden_dim: Width of the head's hidden layer.
        attention_dim: Width of the network for the frame weights.

    Raises:
        InputError: A size is not positive, or ``frame_dim`` is not a multiple of ``num_layers``.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(
        self, frame_dim: int, num_layers: int, num_experts: int, hidden_dim: int = 512, attention_dim: int = 64
    ):
        super().__init__()
        if num_layers < 1 or frame_dim % num_layers:
            raise InputError(
                "embeddings.shape", f"frames of size {frame_dim} are not {num_layers} encoder layers joined", frame_dim
            )
        if attention_dim < 1:
            raise InputError(
                "setting.range",
                f"attention_dim must be at least 1, got {attention_dim}",
                f"attention_dim={attention_dim}",
            )
        layer_dim = frame_dim // num_layers
        self.num_layers = num_layers
        self.register_buffer("mean_D", torch.zeros(frame_dim))
        self.register_buffer("std_D", torch.ones(frame_dim))
        self.layer_logits = nn.Parameter(torch.zeros(num_layers))
        self.frame_hidden = nn.Linear(layer_dim, attention_dim)
        self.frame_score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax
        nn.init.zeros_(self.frame_score.weight)
        self.head = Gate(2 * layer_dim, num_experts, hidden_dim)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Frames]) -> None:
        """Set mean and deviation of frames, and then of the head's input, from training utterances.

        Args:
            batches: Iterated twice, so not an iterator.
        """
        count, sum_D = 0, self.mean_D.new_zeros(self.mean_D.shape, dtype=torch.float64)
        squares_D = sum_D.clone()
        for frames in batches:
            real_ND = frames.values_BTD[frames.is_real_BT].double()
            count += len(real_ND)
            sum_D += real_ND.sum(dim=0)
            squares_D += (real_ND**2).sum(dim=0)
        assert count, "there must be frames to standardise by"
        mean_D = sum_D / count
        std_D = (squares_D / count - mean_D**2).clamp_min(0).sqrt().float()
        self.mean_D.copy_(mean_D)
        self.std_D.copy_(torch.where(std_D > 1e-6, std_D, torch.ones_like(std_D)))
        self.head.standardise(torch.cat([self.pool(frames) for frames in batches]))

    def pool(self, frames: Frames) -> Tensor:
        """Input of the head: mean and standard deviation of the weighted frames, (B, 2 D), float32; D per layer."""
        with torch.autocast(frames.values_BTD.device.type, enabled=False):
            is_real_BT1 = frames.is_real_BT[..., None]
            values_BTD = frames.values_BTD.float().masked_fill(~is_real_BT1, 0.0)  # padding may hold any value
            standard_BTD = (values_BTD - self.mean_D) / self.std_D
            weights_H = self.layer_logits.softmax(dim=0)
            mixed_BTD = torch.einsum("bthd,h->btd", standard_BTD.unflatten(2, (self.num_layers, -1)), weights_H)
            weights_BT1 = self._frame_weights(mixed_BTD, frames.is_real_BT)[..., None]
            mean_BD = (weights_BT1 * mixed_BTD).sum(dim=1)
            variance_BD = (weights_BT1 * (mixed_BTD - mean_BD[:, None]) ** 2).sum(dim=1)
            return torch.cat([mean_BD, (variance_BD + 1e-6).sqrt()], dim=1)  # the root has no finite gradient at 0

    def forward(self, frames: Frames) -> Tensor:
        """``logits_BE``, always float32, even in mixed-precision training."""
        return self.head(self.pool(frames))

    def _frame_weights(self, mixed_BTD: Tensor, is_real_BT: Tensor) -> Tensor:
        scores_BT = self.frame_score(torch.tanh(self.frame_hidden(mixed_BTD)))[..., 0]
        return scores_BT.masked_fill(~is_real_BT, -torch.inf).softmax(dim=1)


GateKind = Literal["mlp", "attentive"]
"""``mlp``: two layers on the pooled embedding; ``attentive``: with attention over frames and layers first."""
GateInput = Literal["cached", "live"]
"""``cached``: contents of the embedding store; ``live``: the frozen base encoder, in the same forward pass."""
Readable: TypeAlias = Tensor | Frames
"""Input of a gate: embeddings (B, D), or frames (B, T, D)."""


@dataclass(frozen=True)
class GateConfig:
    """A gate before its weights are loaded.

    Raises:
        InputError: A name is unknown, or settings contradict each other.
    """

    num_experts: int
    embedding_dim: int
    """D of the store's pooled embeddings."""
    pooling: Pooling = "mean"
    """Pooling of the store's embeddings."""
    window: float = REAL
    """Their window in seconds; 0 for real lengths."""
    embedding_layer: str = "last"
    """Their encoder layers, joined."""
    kind: GateKind = "mlp"
    source: GateInput = "cached"
    layers: str | None = None
    """Encoder layers for a live gate; None: those of the store."""
    hidden_dim: int = 512

    def __post_init__(self) -> None:
        for name, value, known in (("gate", self.kind, GateKind), ("gate_input", self.source, GateInput)):
            if value not in get_args(known):
                raise InputError(
                    "setting.choice",
                    f"{name} must be one of {', '.join(get_args(known))}, got {value!r}",
                    f"{name}={value}",
                )
        if self.layers is not None and self.source == "cached":
            raise InputError(
                "setting.conflict",
                f"gate_layers {self.layers} chooses layers of the live encoder, but the gate reads the store, whose"
                f" frames are of {self.embedding_layer}; take gate_input live, or leave gate_layers out",
                f"gate_layers={self.layers}",
            )
        if self.pooling == "flatten" and (self.kind, self.source) != ("mlp", "cached"):
            raise InputError(
                "setting.conflict",
                "embeddings that are all frames of a window, flattened, suit gate mlp with gate_input cached only;"
                " embed with --pooling mean in another --run-dir",
                "gate_input",
            )

    @property
    def read_layers(self) -> str:
        """Encoder layers in the gate's input."""
        return self.layers or self.embedding_layer

    @property
    def frame_dim(self) -> int:
        """D of the joined frames in the gate's input, before any pooling."""
        num_statistics = 2 if self.pooling == "mean+std" else 1
        num_stored = self.embedding_layer.count(",") + 1
        return self.embedding_dim // (num_statistics * num_stored) * self.num_layers

    @property
    def num_layers(self) -> int:
        """Number of joined layers."""
        return self.read_layers.count(",") + 1

    def build(self) -> Gate | AttentiveGate:
        """The gate, untrained."""
        if self.kind == "attentive":
            return AttentiveGate(self.frame_dim, self.num_layers, self.num_experts, self.hidden_dim)
        dim = self.embedding_dim
        if self.layers is not None:
            dim = self.frame_dim * (2 if self.pooling == "mean+std" else 1)
        return Gate(dim, self.num_experts, self.hidden_dim)

    def layer_numbers(self, num_layers: int) -> tuple[int, ...]:
        """Numbers of the layers read by the gate, for an encoder with ``num_layers`` layers.

        Raises:
            InputError: It has no such layer.
        """
        return parse_layers(self.read_layers, num_layers)

    def of_frames(self, frames: Frames) -> Readable:
        """Input of the gate, from the joined frames of its layers."""
        return frames if self.kind == "attentive" else pool(frames, self.pooling)

    def cached(self, batch: GateBatch | SpeechBatch) -> Readable:
        """Input of the gate, as stored in the batch."""
        if self.kind == "mlp":
            return batch.embeddings_BD
        assert batch.frames_BTD is not None, "the data module must be told that the gate reads frames"
        assert batch.num_frames_B is not None
        return Frames(batch.frames_BTD, batch.num_frames_B)


class FrozenEncoder:
    """A backbone outside the module that reads it: neither trained nor saved, always in evaluation mode.

    Raises:
        InputError: The encoder lacks a layer that the gate reads.
    """

    def __init__(self, backbone: SpeechBackbone, config: GateConfig):
        self.backbone = backbone.eval().requires_grad_(False)
        self.config = config
        self.layers = config.layer_numbers(backbone.num_layers)

    @torch.no_grad()
    def read(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> Readable:
        """Input of the gate from waveforms, on their device."""
        self.backbone.to(waveforms_BL.device)
        features = self.backbone.features(waveforms_BL, num_samples_B, self.config.window)
        return self.config.of_frames(layer_frames(self.backbone, features, self.layers))
