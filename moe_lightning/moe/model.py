"""MixtureASR: gate and experts as one recogniser."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from moe_lightning.backbone.loading import load_backbone, resolve_window
from moe_lightning.backbone.speech import DECODE, DecodeOptions, Frames, Hypotheses, TokenLoss
from moe_lightning.backbone.window import REAL, Window, window_words
from moe_lightning.batch import SpeechBatch
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.experts.gated_lora import ExpertConfig
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.from_json import from_json
from moe_lightning.gating.model import load_gate
from moe_lightning.gating.reading import GateConfig, GateInput, GateKind
from moe_lightning.json_files import read_json_object, write_json
from moe_lightning.moe.hearing import Heard, hear
from moe_lightning.moe.mixing import check_ability, mixture_hypotheses, mixture_loss
from moe_lightning.moe.routing import Routing, RoutingMode, check_routing, dense_gates, gate_probs, route
from moe_lightning.run_dir import RunDir
from moe_lightning.store.embedding_store import Pooling
from moe_lightning.training.weights import read_tensors


@dataclass(frozen=True)
class MixtureConfig:
    """All settings needed to build a mixture before its weights are loaded.

    Raises:
        InputError: A number is out of its range.
    """

    whisper_model: str
    embedding_dim: int
    experts: ExpertConfig
    hidden_dim: int = 512
    gate: GateKind = "mlp"
    gate_input: GateInput = "cached"
    """In training; for new audio every gate reads the live encoder."""
    gate_layers: str | None = None
    """Encoder layers for a live gate; None: those of the embeddings."""
    routing: RoutingMode = "top_k"
    top_k: int = 2
    gate_temperature: float = 1.0
    """Divides the gate's logits."""
    min_expert_prob: float = 0.0
    """Minimum probability of each expert."""
    pooling: Pooling = "mean"
    embedding_window: float = REAL
    """Window of the gate's embeddings in seconds; ``window`` is that of the recogniser itself."""
    embedding_layer: str = "last"
    """Encoder layers of the embeddings, joined: ``last``, ``6``, ``6,12,last``."""
    window: float = REAL
    """Minimum input of the recogniser in seconds; 0 for real lengths."""

    def __post_init__(self) -> None:
        num_experts = self.experts.num_experts
        check_routing(self.routing, min(self.top_k, 1) if num_experts == 1 else self.top_k, num_experts)
        if not 0 <= self.min_expert_prob < 1 / num_experts:
            raise InputError(
                f"min_expert_prob must be at least 0 and under 1 / {num_experts}, one over the number of experts,"
                f" got {self.min_expert_prob}"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "MixtureConfig":
        """From the joint stage's flat settings, including the experts'."""
        own = {field.name: settings[field.name] for field in fields(cls) if field.name != "experts"}
        return cls(experts=ExpertConfig.of(settings), **own)

    @property
    def gate_config(self) -> GateConfig:
        """Type and input of the gate."""
        return GateConfig(
            num_experts=self.experts.num_experts,
            embedding_dim=self.embedding_dim,
            pooling=self.pooling,
            window=self.embedding_window,
            embedding_layer=self.embedding_layer,
            kind=self.gate,
            source=self.gate_input,
            layers=self.gate_layers,
            hidden_dim=self.hidden_dim,
        )


class MixtureASR(nn.Module):
    """A speech recogniser with a separate mixture of experts for every utterance.

    The gate reads the frozen base encoder's output: in training from the cache or live, for new audio always live.
    Embeddings are the input of the gate's head: pooled frames, or for a gate with attention over frames the
    statistics of these.
    """

    def __init__(self, config: MixtureConfig):
        super().__init__()
        self.config = config
        backbone = load_backbone(config.whisper_model, window_words(config.window))
        check_ability(backbone, config.routing)
        self.experts = SpeechExperts(backbone, config.experts)
        self.gate: Any = config.gate_config.build()  # it takes the result of `read`: embeddings, or frames

    @property
    def device(self) -> torch.device:
        device: torch.device = self.gate.mean_D.device
        return device

    def hear(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> Heard:
        """Gate input of new audio."""
        return hear(self.experts, self.config.gate_config, waveforms_BL, num_samples_B)

    def read(self, batch: SpeechBatch) -> Heard:
        """Gate input of a batch: from the cache in it, or from the live encoder."""
        if self.config.gate_input == "live":
            return self.hear(batch.waveforms_BL, batch.num_samples_B)
        return Heard(self.config.gate_config.cached(batch), None)

    @torch.no_grad()
    def listen(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Frames | None]:
        """The gate's logits for new audio, (B, E), and the experts' first input if it lay on the way.

        `transcribe` takes both.
        """
        readable, base = self.hear(waveforms_BL, num_samples_B)
        return self.gate.head(self.gate.pool(readable)), base

    @torch.no_grad()
    def detect_language(self, waveforms_1L: Tensor, num_samples_1: Tensor) -> str | None:
        """Code of the language detected by the bare backbone; its only language, or None, if it detects none."""
        backbone = self.experts.backbone
        if backbone.only_language or not backbone.detects_languages:
            return backbone.only_language
        return backbone.detect_languages(self.experts.bare_frames(waveforms_1L, num_samples_1))[0].language

    def choose(self, logits_BE: Tensor) -> Routing:
        """Routing of utterances, by the gate's logits."""
        config = self.config
        top_k = min(config.top_k, config.experts.num_experts)
        return route(logits_BE, config.routing, top_k, config.gate_temperature, config.min_expert_prob)

    def probs(self, logits_BE: Tensor) -> Tensor:
        """Probabilities of all experts, float32, before the routing keeps some."""
        return gate_probs(logits_BE, self.config.gate_temperature, self.config.min_expert_prob)

    def set_phase(self, routing: RoutingMode, gate_temperature: float) -> None:
        """Set mode and gate temperature of the routing for later calls: in training they may change.

        Raises:
            InputError: There is no such mode, or the backbone cannot decode by it.
        """
        check_ability(self.experts.backbone, routing)
        self.config = replace(self.config, routing=routing, gate_temperature=gate_temperature)

    def get_extra_state(self) -> dict[str, Any]:
        """Checkpoint state beside the weights: the routing of their validation."""
        return {"routing": self.config.routing, "gate_temperature": self.config.gate_temperature}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the routing of a checkpoint's weights."""
        self.set_phase(**state)

    def gates(self, logits_BE: Tensor) -> Tensor:
        """``gate_BE`` of utterances, by the gate's logits."""
        return dense_gates(self.choose(logits_BE), self.config.experts.num_experts)

    def loss(self, batch: SpeechBatch, routing: Routing, base: Frames | None = None) -> TokenLoss:
        """Negative log-likelihood of each utterance's transcript under its mixture.

        Args:
            base: From `read`.
        """
        return mixture_loss(self.experts, batch, routing, self.config.routing, base)

    @torch.no_grad()
    def transcribe(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        languages: Sequence[str | None],
        logits_BE: Tensor | None = None,
        base: Frames | None = None,
        options: DecodeOptions = DECODE,
    ) -> list[str]:
        """Transcripts of 16 kHz waveforms, by the gate's logits; without these the gate reads the audio first."""
        return self.hypotheses(waveforms_BL, num_samples_B, languages, logits_BE, base, options).texts

    @torch.no_grad()
    def hypotheses(
        self,
        waveforms_BL: Tensor,
        num_samples_B: Tensor,
        languages: Sequence[str | None],
        logits_BE: Tensor | None = None,
        base: Frames | None = None,
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Transcripts as in `transcribe`, with the mixture's confidence in each."""
        if logits_BE is None:
            logits_BE, base = self.listen(waveforms_BL, num_samples_B)
        routing, mode = self.choose(logits_BE), self.config.routing
        speech = (waveforms_BL, num_samples_B, languages)
        return mixture_hypotheses(self.experts, *speech, routing, mode, base, options)

    def save(self, run: RunDir) -> None:
        """Write weights and config to the run."""
        run.mixture_file.parent.mkdir(parents=True, exist_ok=True)
        gate = {f"gate.{name}": tensor.cpu().contiguous() for name, tensor in self.gate.state_dict().items()}
        save_file(self.experts.expert_state() | gate, run.mixture_file)
        write_json(run.mixture_config_file, asdict(self.config))

    @classmethod
    def load(
        cls,
        run: RunDir,
        device: str | torch.device = "cpu",
        routing: RoutingMode | None = None,
        window: Window | None = None,
    ) -> "MixtureASR":
        """The mixture of a finished run, ready to transcribe.

        Args:
            routing: Replaces the trained mode; ``top_k`` and all else stay.
            window: Replaces the trained window.

        Raises:
            MissingInputError: The run has no finished joint stage.
            InputError: There is no such routing or window.
        """
        config = read_config(run)
        if window is not None:
            config = replace(config, window=resolve_window(window, config.whisper_model))
        mixture = cls(config)
        mixture.load_weights(run)
        if routing is not None:
            mixture.set_phase(routing, mixture.config.gate_temperature)
        return mixture.eval().to(device)

    def load_weights(self, run: RunDir) -> None:
        """Load gate and experts of `save`, with their trained routing.

        Raises:
            MissingInputError: The run has no finished joint stage.
            InputError: Its gate or experts are of another size.
        """
        if not run.mixture_file.exists():
            raise MissingInputError(f"{run.mixture_file} is missing; run `moe-lightning pipeline` first")
        state = read_tensors(run.mixture_file, "moe-lightning pipeline")
        gate = {name.removeprefix("gate."): state.pop(name) for name in list(state) if name.startswith("gate.")}
        load_gate(self.gate, gate, run.mixture_file)
        self.experts.load_expert_state(state)
        config = read_config(run)
        self.config = replace(self.config, **{name: getattr(config, name) for name in _ROUTED_BY})


_ROUTED_BY = ("routing", "top_k", "gate_temperature", "min_expert_prob")


def read_config(run: RunDir) -> MixtureConfig:
    """The config of a finished run's mixture.

    Raises:
        MissingInputError: The run has no finished joint stage.
    """
    file = run.mixture_config_file
    settings = read_json_object(file, "moe-lightning pipeline", {"experts": dict})
    return from_json(MixtureConfig, {**settings, "experts": ExpertConfig.of(settings["experts"], file)}, file)
