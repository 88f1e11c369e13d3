"""Configuration of a gate, and its input: cached embeddings or frames, or the live encoder."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from moe_lightning.backbone.pooling import layer_frames, parse_layers, pool
from moe_lightning.backbone.speech import Frames, SpeechBackbone
from moe_lightning.backbone.window import REAL
from moe_lightning.batch import GateBatch, SpeechBatch
from moe_lightning.errors import InputError
from moe_lightning.gating.attentive import AttentiveGate
from moe_lightning.gating.model import Gate
from moe_lightning.store.embedding_store import Pooling

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
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
        if self.layers is not None and self.source == "cached":
            raise InputError(
                f"gate_layers {self.layers} chooses layers of the live encoder, but the gate reads the store, whose"
                f" frames are of {self.embedding_layer}; take gate_input live, or leave gate_layers out"
            )
        if self.pooling == "flatten" and (self.kind, self.source) != ("mlp", "cached"):
            raise InputError(
                "embeddings that are all frames of a window, flattened, suit gate mlp with gate_input cached only;"
                " embed with --pooling mean in another --run-dir"
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
