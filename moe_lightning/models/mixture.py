"""The recogniser: a speech model with a separate mixture of experts for every utterance.

This file tells its forward from top to bottom:

1. **read** - the frozen base encoder gives the gate's input, from the cache or live (`MixtureASR.read`);
2. **gate** - a logit for each expert (`MixtureASR.gate`);
3. **route** - the experts of each utterance and their weights (`MixtureASR.route`);
4. **encode** - the encoder with these experts (`SpeechExperts.encode`);
5. **combine** - a loss or a text (`mixture_loss`, `mixture_hypotheses`), the same in training and decoding.

In one-pass modes (``merge``, ``top_k``, ``hard``), each utterance runs one model, the gate's mean of its experts.
The others run the K likeliest experts side by side, B * K rows, and combine their outputs:

- ``posterior``: one recogniser with the next-token probabilities ``sum_k w_k p_k``. Loss and text are its own.
- ``loss``: the loss is ``sum_k w_k CE_k``, the cross-entropy of ``prod_k p_k ^ w_k`` without its normalising
  constant: a product of experts (Hinton 2002). The text is therefore decoded from that product, token by token:
  each step adds least to the loss. (CTC sums over alignments in the loss and takes the best one in the text, here
  as for a single model.)
- ``confidence``: one expert writes the whole utterance, so the loss is that of a mixture with a hidden expert,
  ``-log sum_k w_k p_k(transcript)`` (Jacobs et al. 1991, equation 1.3): an utterance trains the expert that
  explains it best; a weighted sum over losses would make experts alike. The text comes from the most confident
  expert, by its tokens' mean log-probability. The gate's weight does not count there: among experts that the
  gate has kept, it would outweigh small differences in confidence.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.models.backbones.base import Average, Frames, SpeechBackbone, TokenLoss
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Hypotheses, most_confident
from moe_lightning.models.backbones.loading import load_backbone, resolve_window
from moe_lightning.models.backbones.pooling import layer_frames
from moe_lightning.models.backbones.window import Window, window_words
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.gate import GateConfig, Readable, load_gate
from moe_lightning.models.mixture_config import MixtureConfig, read_config
from moe_lightning.models.routing import ONE_PASS, Routing, RoutingMode, dense_gates, gate_probs, route
from moe_lightning.models.weights import read_tensors, write_tensors
from moe_lightning.system.json_files import write_json

_AVERAGE: dict[RoutingMode, Average] = {"posterior": "arithmetic", "loss": "geometric"}
"""Mean over the probabilities of experts side by side, for the text."""


class GateInput(NamedTuple):
    """Gate input of a batch."""

    readable: Readable
    """Embeddings or frames, without a gradient."""
    base: Frames | None
    """Input of the first encoder layer with experts, if it lay on the way; the pass continues from here."""


class MixtureASR(nn.Module):
    """Gate and experts as one recogniser.

    The gate reads the frozen base encoder's output: in training from the cache or live, for new audio always live.
    Embeddings are the input of the gate's head: pooled frames, or for a gate with attention over frames the
    statistics of these.

    Attributes:
        rule: Routing of the present weights. It is a part of their state, saved and loaded with them: a training
            changes it from epoch to epoch, and the best epoch's weights are decoded in their own mode.
    """

    def __init__(self, config: MixtureConfig):
        super().__init__()
        self.config = config
        backbone = load_backbone(config.whisper_model, window_words(config.window))
        check_ability(backbone, config.routing)
        self.experts = SpeechExperts(backbone, config.experts)
        self.gate_config = config.gate_config
        self.gate: Any = self.gate_config.build()  # it takes the result of `read`: embeddings, or frames
        self.rule = config.rule

    @property
    def device(self) -> torch.device:
        device: torch.device = self.gate.mean_D.device
        return device

    def read(self, batch: SpeechBatch) -> GateInput:
        """Gate input of a batch: from the cache in it, or from the live encoder."""
        if self.gate_config.source == "live":
            return self.read_audio(batch.waveforms_BL, batch.num_samples_B)
        return GateInput(self.gate_config.cached(batch), None)

    @torch.no_grad()
    def read_audio(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> GateInput:
        """Gate input of audio, by the frozen base encoder.

        If it needs no layer above the first one with experts (`adapt_from_layer`), one pass serves both. In training
        the gate then reads audio masked by SpecAugment, as the experts do.
        """
        config, backbone = self.gate_config, self.experts.backbone
        layers = config.layer_numbers(backbone.num_layers)
        if not _is_on_the_way(self.experts, config):
            features = backbone.features(waveforms_BL, num_samples_B, config.window)
            return GateInput(config.of_frames(layer_frames(backbone, features, layers)), None)
        frames, base = self.experts.base_layers(waveforms_BL, num_samples_B, layers)
        return GateInput(config.of_frames(frames), base)

    @torch.no_grad()
    def audio_logits(self, waveforms_BL: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Frames | None]:
        """The gate's logits for new audio, (B, E), and the experts' first input if it lay on the way.

        `hypotheses` takes both.
        """
        readable, base = self.read_audio(waveforms_BL, num_samples_B)
        return self.gate.head(self.gate.pool(readable)), base

    def probs(self, logits_BE: Tensor) -> Tensor:
        """Probabilities of all experts, float32, before the routing keeps some."""
        return gate_probs(logits_BE, self.rule.temperature, self.rule.min_prob)

    def route(self, logits_BE: Tensor) -> Routing:
        """Routing of utterances, by the gate's logits."""
        return route(logits_BE, *self.rule)

    def gates(self, logits_BE: Tensor) -> Tensor:
        """``gate_BE`` of utterances, by the gate's logits."""
        return dense_gates(self.route(logits_BE), self.config.experts.num_experts)

    def loss(self, batch: SpeechBatch, routing: Routing, base: Frames | None = None) -> TokenLoss:
        """Negative log-likelihood of each utterance's transcript under its mixture.

        Args:
            base: From `read`.
        """
        return mixture_loss(self.experts, batch, routing, self.rule.mode, base)

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
        """Transcripts of 16 kHz waveforms, with the mixture's confidence in each.

        Args:
            logits_BE: The gate's; None lets it read the audio first.
            base: From `audio_logits`.
        """
        if logits_BE is None:
            logits_BE, base = self.audio_logits(waveforms_BL, num_samples_B)
        speech = (waveforms_BL, num_samples_B, languages)
        return mixture_hypotheses(self.experts, *speech, self.route(logits_BE), self.rule.mode, base, options)

    def get_extra_state(self) -> dict[str, Any]:
        """Checkpoint state beside the weights: the routing of their validation."""
        return {"routing": self.rule.mode, "gate_temperature": self.rule.temperature}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the routing of a checkpoint's weights."""
        self.rule = self.rule._replace(mode=state["routing"], temperature=state["gate_temperature"])

    def save(self, weights_file: Path, config_file: Path) -> None:
        """Write weights, and config with the routing of these."""
        gate = {f"gate.{name}": tensor.cpu().contiguous() for name, tensor in self.gate.state_dict().items()}
        write_tensors(self.experts.expert_state() | gate, weights_file)
        trained = replace(self.config, routing=self.rule.mode, gate_temperature=self.rule.temperature)
        write_json(config_file, asdict(trained))

    @classmethod
    def load(
        cls,
        files: tuple[Path, Path],
        device: str | torch.device = "cpu",
        routing: RoutingMode | None = None,
        window: Window | None = None,
    ) -> "MixtureASR":
        """The mixture of a finished run, ready to transcribe.

        Args:
            files: Weights and config, from `save`.
            routing: Replaces the trained mode; ``top_k`` and all else stay.
            window: Replaces the trained window.

        Raises:
            MissingInputError: The run has no finished joint stage.
            InputError: There is no such routing or window.
        """
        config = read_config(files[1])
        if window is not None:
            config = replace(config, window=resolve_window(window, config.whisper_model))
        mixture = cls(config if routing is None else replace(config, routing=routing))
        mixture.load_weights(files[0])
        return mixture.eval().to(device)

    def load_weights(self, weights_file: Path) -> None:
        """Load gate and experts of `save`.

        Raises:
            MissingInputError: The run has no finished joint stage.
            InputError: Its gate or experts are of another size.
        """
        if not weights_file.exists():
            raise MissingInputError(
                "file.missing", f"{weights_file} is missing; run `moe-lightning pipeline` first", weights_file
            )
        state = read_tensors(weights_file, "moe-lightning pipeline")
        gate = {name.removeprefix("gate."): state.pop(name) for name in list(state) if name.startswith("gate.")}
        load_gate(self.gate, gate, weights_file)
        self.experts.load_expert_state(state)


def mixture_loss(
    experts: SpeechExperts, batch: SpeechBatch, routing: Routing, mode: RoutingMode, base: Frames | None = None
) -> TokenLoss:
    """Negative log-likelihood of each utterance's transcript under its mixture, with a gradient for its weights.

    Args:
        base: Input of the first encoder layer with experts, if already computed.
    """
    speech = (batch.waveforms_BL, batch.num_samples_B)
    gate_NE = _gate_rows(routing, mode, experts.config.num_experts)
    if mode in ("confidence", "loss"):
        losses = experts.losses(*speech, batch.texts, batch.languages, gate_NE, base)
        return _combined_losses(losses, routing.weights_BK, mode)
    frames = experts.encode(*speech, gate_NE, base)
    targets = experts.backbone.targets(batch.texts, batch.languages)
    return experts.token_loss(frames, targets, gate_NE, routing.weights_BK if mode == "posterior" else None)


@torch.no_grad()
def mixture_hypotheses(
    experts: SpeechExperts,
    waveforms_BL: Tensor,
    num_samples_B: Tensor,
    languages: Sequence[str | None],
    routing: Routing,
    mode: RoutingMode,
    base: Frames | None = None,
    options: DecodeOptions = DECODE,
) -> Hypotheses:
    """Text of each utterance under its mixture; ``base`` as in `mixture_loss`."""
    gate_NE = _gate_rows(routing, mode, experts.config.num_experts)
    frames = experts.encode(waveforms_BL, num_samples_B, gate_NE, base)
    if mode in _AVERAGE:
        return experts.decode(frames, languages, gate_NE, routing.weights_BK, _AVERAGE[mode], options)
    num_rows = len(gate_NE) // len(languages)  # 1 where one pass has merged them
    if options.speech_B is not None:
        options = replace(options, speech_B=options.speech_B.repeat_interleave(num_rows))
    repeated = [language for language in languages for _ in range(num_rows)]
    found = experts.decode(frames, repeated, gate_NE, options=options)
    return most_confident(found, num_rows)


def check_ability(backbone: SpeechBackbone, mode: RoutingMode) -> None:
    """Raise an InputError for a routing that a backbone cannot decode by."""
    needed = _AVERAGE.get(mode)
    if needed is not None and needed not in backbone.averages:
        able = [one for one in get_args(RoutingMode) if _AVERAGE.get(one) in (None, *backbone.averages)]
        raise InputError(
            "setting.choice",
            f"a {type(backbone).__name__} cannot decode by the routing {mode}, which takes the {needed} mean of its"
            f" experts' probabilities; it can by {', '.join(able)}",
            mode,
        )


def _is_on_the_way(experts: SpeechExperts, config: GateConfig) -> bool:
    """True if the gate's layers lie below the experts, in frames over the same window.

    The last layer never does: the gate reads it after the final norm.
    """
    backbone = experts.backbone
    highest = config.layer_numbers(backbone.num_layers)[-1]
    is_below = highest <= experts.config.adapt_from_layer and highest < backbone.num_layers
    return is_below and config.window == backbone.window


def _gate_rows(routing: Routing, mode: RoutingMode, num_experts: int) -> Tensor:
    """``gate_NE`` of a routing: one row per utterance, or its K experts one after another."""
    if mode in ONE_PASS:
        return dense_gates(routing, num_experts)
    return F.one_hot(routing.experts_BK.flatten(), num_experts).float()


def _combined_losses(losses: TokenLoss, weights_BK: Tensor, mode: RoutingMode) -> TokenLoss:
    """The losses of an utterance's K experts, combined by ``loss`` or ``confidence``."""
    sum_BK, num_tokens_BK = (part.unflatten(0, weights_BK.shape) for part in losses)
    if mode == "loss":
        return TokenLoss((weights_BK * sum_BK).sum(dim=1), num_tokens_BK[:, 0])
    return TokenLoss(-(weights_BK.clamp_min(1e-30).log() - sum_BK).logsumexp(dim=1), num_tokens_BK[:, 0])
