"""Whisper over any window: its training window of 30 s, a shorter one, or real lengths.

transformers' encoder takes exactly 3000 mel frames, and its decoder attends to the whole encoder output.
Here both take a mask: a shorter window costs less, and an utterance's result does not depend on its batch.
Over 30 s every number equals that of transformers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.activity import is_doubtful, is_silent
from moe_lightning.models.backbones.base import (
    Average,
    Detected,
    Features,
    Frames,
    SpeechBackbone,
    TokenLoss,
    frame_mask,
    mean_log_probs,
)
from moe_lightning.models.backbones.decoding import (
    DECODE,
    MOST_TOKENS,
    DecodeOptions,
    Hypotheses,
    Limits,
    Spoken,
    greedy,
    hypotheses,
    longest_spoken_run,
)
from moe_lightning.models.backbones.log_mel import SAMPLE_RATE, WINDOW_SECONDS, log_mel
from moe_lightning.models.backbones.pretrained import load_whisper
from moe_lightning.models.backbones.tokens import (
    IGNORED,
    MAX_TOKENS,
    SpeechTokens,
    Targets,
    refuse_control_tokens,
)
from moe_lightning.models.backbones.window import Window, own_window, parse_window

FRAME_RATE = 50
"""Encoder frames per second."""


class WhisperBackbone(SpeechBackbone):
    """A Whisper model with variable-length encoder, masked cross-attention, training loss and greedy decoding.

    Args:
        window: ``auto``, ``real`` or seconds, see `parse_window`; the decoder attends to its silence.
    """

    def __init__(self, model: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer, window: Window = "auto"):
        seconds = parse_window(window)
        super().__init__(model, own_window(model.config, "whisper") if seconds is None else seconds)
        self.tokens = SpeechTokens(tokenizer, model.generation_config, model.config.vocab_size)
        for layer in model.model.decoder.layers:
            layer.encoder_attn.register_forward_pre_hook(self._mask_cross_attention, with_kwargs=True)

    @classmethod
    def load(cls, whisper_model: str, window: Window = "auto") -> "WhisperBackbone":
        """Load by name: v2, v3, nano, a hub id, or a folder."""
        return cls(*load_whisper(whisper_model), window=window)

    @property
    def embedding_dim(self) -> int:
        """Size of an encoder frame."""
        return int(self.model.config.d_model)

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return len(self.model.model.encoder.layers)

    def features(self, waveforms_BL: Tensor, num_samples_B: Tensor, window: float | None = None) -> Features:
        """Spectrograms of waveforms and the silence after them up to the window's end, see `log_mel`.

        Raises:
            InputError: An utterance is longer than Whisper's 30 s.
        """
        longest = WINDOW_SECONDS * SAMPLE_RATE
        if int(num_samples_B.max()) > longest:
            raise InputError(
                "audio.too-long",
                f"an utterance has {int(num_samples_B.max()) / SAMPLE_RATE:.1f} s, more than Whisper's"
                f" {WINDOW_SECONDS} s; split the recording",
                int(num_samples_B.max()),
            )
        num_window = round((self.window if window is None else window) * SAMPLE_RATE)
        waveforms_BL = F.pad(waveforms_BL, (0, max(num_window - waveforms_BL.shape[1], 0)))
        return log_mel(waveforms_BL, num_samples_B, self.model.config.num_mel_bins, num_window)

    def stem(self, features: Features) -> Frames:
        """Convolutions and positions; ``ceil(samples / 320)`` real frames, 50 per second."""
        encoder = self.model.model.encoder
        is_read_B1T = frame_mask(features.num_read_B, features.values_BMT.shape[2])[:, None]
        hidden_BDT = F.gelu(encoder.conv1(features.values_BMT)) * is_read_B1T
        hidden_BTD = F.gelu(encoder.conv2(hidden_BDT)).transpose(1, 2)
        hidden_BTD = hidden_BTD + encoder.embed_positions.weight[: hidden_BTD.shape[1]]
        num_frames_B = torch.div(features.num_frames_B + 1, 2, rounding_mode="floor")
        num_window = (features.num_window + 1) // 2
        return Frames(F.dropout(hidden_BTD, encoder.dropout, self.training), num_frames_B, num_window)

    def run_layers(self, frames: Frames, first: int = 0, last: int | None = None) -> Frames:
        """Frames after the encoder layers ``first`` to ``last``; with the last one, after the layer norm."""
        encoder, hidden_BTD = self.model.model.encoder, frames.values_BTD
        mask_B11T = _attention_mask(frames)
        for layer in encoder.layers[first:last]:
            hidden_BTD = layer(hidden_BTD, mask_B11T)
        return frames._replace(values_BTD=encoder.layer_norm(hidden_BTD) if last is None else hidden_BTD)

    @property
    def detects_languages(self) -> bool:
        """True if multilingual: the prompt holds a language token, and the model can detect the language."""
        return self.tokens.is_multilingual

    @property
    def only_language(self) -> str | None:
        """English for an English-only model; for a multilingual one its single detectable language, if so."""
        return self.tokens.only_language

    def check_language(self, language: str) -> None:
        """Raise an InputError for a language that the model cannot write."""
        self.tokens.check_language(language)

    @torch.no_grad()
    def detect_languages(self, frames: Frames) -> list[Detected]:
        """The likeliest language of each utterance, as in transformers' `detect_language`.

        Args:
            frames: From the bare encoder over its own window.

        Raises:
            InputError: The model is English-only, or its generation config lists no languages.
        """
        codes, ids = self.tokens.detectable()
        start_B1 = torch.full((len(frames.num_frames_B), 1), self.tokens.start, device=self.model.device)
        probs_BC = self._logits(frames, start_B1)[:, -1, ids].float().softmax(dim=-1)
        best_B, code_B = probs_BC.max(dim=1)
        return [Detected(codes[code], prob) for code, prob in zip(code_B.tolist(), best_B.tolist(), strict=True)]

    def check_text(self, text: str, language: str | None) -> None:
        """Raise an InputError for a transcript with more tokens than the decoder has positions, or a control token."""
        refuse_control_tokens(text)
        if len(text.encode()) > MAX_TOKENS - 8:  # a token has at least one byte: most texts need no tokenizer
            self.tokens.targets([text], [language])

    def left_out_of(self, text: str) -> str:
        """The characters of a transcript that decoding forbids, each once."""
        kept = self.tokens.writable(text)
        return "".join(sorted({one for one in text if text.count(one) > kept.count(one)} - {" "}))

    def targets(self, texts: Sequence[str], languages: Sequence[str | None]) -> Targets:
        """Decoder inputs and labels of transcripts, on the model's device."""
        targets = self.tokens.targets(texts, languages)
        return Targets(*(tensor.to(self.model.device) for tensor in targets))

    def token_loss(self, frames: Frames, targets: Targets, weights_BK: Tensor | None = None) -> TokenLoss:
        """Cross-entropy of the transcripts and the end of text, by utterance."""
        num_side_by_side = 1 if weights_BK is None else weights_BK.shape[1]
        logits_NSV = self._logits(frames, targets.inputs_BS.repeat_interleave(num_side_by_side, dim=0)).float()
        log_probs_BSV = mean_log_probs(logits_NSV.log_softmax(dim=-1), weights_BK)
        labels_BS = targets.labels_BS
        flat = log_probs_BSV.flatten(0, 1), labels_BS.flatten()  # in two dimensions CUDA adds in random order
        loss_BS = F.nll_loss(*flat, ignore_index=IGNORED, reduction="none").view_as(labels_BS)
        return TokenLoss(loss_BS.sum(dim=1), (targets.labels_BS != IGNORED).sum(dim=1))

    @torch.no_grad()
    def prefix_log_probs(
        self, frames: Frames, texts: Sequence[Sequence[int]], language: str | None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the first n tokens of a text, and of a transcript's end behind them.

        It also ends with a stop, a comma, or the like: many transcripts have none. Values behind a text's own length
        are meaningless.

        Args:
            texts: Tokens for each row of the frames.

        Returns:
            Both float32, (B, longest + 1), for n from 0 on.
        """
        prompt, width = self.tokens.prompt(language), max(map(len, texts))
        padded = [[*prompt, *text, *[self.tokens.end] * (width - len(text))] for text in texts]
        inputs_BS = torch.tensor(padded, device=self.model.device)
        log_probs_BSV = self._logits(frames, inputs_BS)[:, len(prompt) - 1 :].float().log_softmax(dim=-1)
        spoken_BS = log_probs_BSV[:, :-1].gather(2, inputs_BS[:, len(prompt) :, None])[..., 0]
        ending_BS = log_probs_BSV[..., [self.tokens.end, *self.tokens.stops]].logsumexp(dim=-1)
        return F.pad(spoken_BS.cumsum(dim=1), (1, 0)), ending_BS

    @torch.no_grad()
    def decode(
        self,
        frames: Frames,
        languages: Sequence[str | None],
        weights_BK: Tensor | None = None,
        average: Average = "arithmetic",
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Greedy transcripts of all utterances side by side.

        An utterance ends at the end of text or at a limit of the options; ``guard`` cuts off loops.

        Raises:
            InputError: A multilingual model gets no language for an utterance, or an unknown one.
        """
        num_side_by_side = 1 if weights_BK is None else weights_BK.shape[1]
        num_frames_B = frames.num_frames_B[::num_side_by_side]
        prompt_BS = torch.tensor([self.tokens.prompt(language) for language in languages], device=self.model.device)
        is_silent_B = self._is_silent(frames, weights_BK, average, options)
        limits = self._limits(num_frames_B, prompt_BS.shape[1], options)
        decoder, cache = self.model.model.decoder, None

        def step(inputs_BS: Tensor, number: int) -> Tensor:
            nonlocal cache
            inputs_NS = inputs_BS.repeat_interleave(num_side_by_side, dim=0)
            output = decoder(inputs_NS, encoder_hidden_states=frames.values_BTD, cache=cache, use_cache=True)
            cache = output.cache
            logits_N1V = self._allowed(self.model.proj_out(output.last_hidden_state[:, -1:]).float(), number)
            return mean_log_probs(logits_N1V.log_softmax(dim=-1), weights_BK, average)[:, 0]

        with self.state.holding(cross_mask_B11T=_attention_mask(frames)):
            found = greedy(step, prompt_BS, ~is_silent_B, limits, self.tokens.end)
        seconds_B = num_frames_B / FRAME_RATE if options.guard else None
        return hypotheses(found, self.tokens, seconds_B, is_silent_B)

    @staticmethod
    def _limits(num_frames_B: Tensor, num_prompt: int, options: DecodeOptions) -> Limits:
        """Most tokens after the prompt, by the number of real frames."""
        tokens_B = 20 + num_frames_B * MOST_TOKENS // FRAME_RATE
        spoken = Spoken(tokens_B, longest_spoken_run(num_frames_B / FRAME_RATE)) if options.guard else None
        return Limits(min(options.max_tokens, MAX_TOKENS - num_prompt), spoken)

    def _is_silent(self, frames: Frames, weights_BK: Tensor | None, average: Average, options: DecodeOptions) -> Tensor:
        """True where the speech activity finds no speech; in doubt the model decides, (B,)."""
        num_utterances = len(frames.num_frames_B) if weights_BK is None else len(weights_BK)
        speech_B, token = options.speech_B, self.tokens.no_speech
        if speech_B is None or not options.guard:
            return torch.zeros(num_utterances, dtype=torch.bool, device=self.model.device)
        if token is None or not is_doubtful(speech_B).any():
            return is_silent(speech_B)
        start_N1 = torch.full((len(frames.num_frames_B), 1), self.tokens.start, device=self.model.device)
        log_probs_N1V = self._logits(frames, start_N1).float().log_softmax(dim=-1)
        return is_silent(speech_B, mean_log_probs(log_probs_N1V, weights_BK, average)[:, 0, token].exp())

    def _allowed(self, logits_N1V: Tensor, step: int) -> Tensor:
        """Logits without the tokens forbidden by the generation config."""
        forbidden = self.tokens.suppressed + (self.tokens.suppressed_first if step == 0 else [])
        if forbidden:
            logits_N1V[..., forbidden] = -torch.inf
        return logits_N1V

    def _logits(self, frames: Frames, inputs_BS: Tensor) -> Tensor:
        with self.state.holding(cross_mask_B11T=_attention_mask(frames)):
            hidden_BSD = self.model.model.decoder(
                inputs_BS, encoder_hidden_states=frames.values_BTD, use_cache=False
            ).last_hidden_state
        return self.model.proj_out(hidden_BSD)

    def _mask_cross_attention(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pass the mask to a cross-attention: transformers' decoder has no argument for it."""
        return args, {**kwargs, "attention_mask": self.state.now.cross_mask_B11T}


def _attention_mask(frames: Frames) -> Tensor | None:
    """True at keys open to attention; None if all are, for the fast kernels."""
    num_read_B, width = frames.num_read_B, frames.values_BTD.shape[1]
    if int(num_read_B.min()) == width:
        return None
    return frame_mask(num_read_B, width)[:, None, None]
