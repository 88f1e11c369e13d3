"""SpeechBackbone: what a speech model must be able to do to carry experts.

Audio becomes features, features become encoder frames, layer by layer, and frames become a loss or
text. An utterance's result does not depend on its batch.

Several experts side by side: where ``weights_BK`` is given, frames hold B * K rows, the K experts of
the first utterance, then those of the second. At each token (or frame of a CTC model) the probabilities
of an utterance's K rows are averaged with these weights: a mixture of what the experts say, not of
their parameters. Decoding can also take their weighted geometric mean, a product of experts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from moe_lightning.backbone.tokens import MAX_TOKENS, Targets
from moe_lightning.backbone.window import own_window
from moe_lightning.errors import InputError
from moe_lightning.languages import language_code

Average = Literal["arithmetic", "geometric"]
"""Of the probabilities of experts side by side: ``sum_k w_k p_k``, or ``prod_k p_k ^ w_k`` brought to the sum 1."""


class Features(NamedTuple):
    """What an encoder reads; what lies behind an utterance's end is zero."""

    values_BMT: Tensor
    """Float32. A spectrogram has M mel bins; a waveform has one, and 16,000 frames a second."""
    num_frames_B: Tensor
    """Real frames of each utterance, int64."""
    num_window: int = 0
    """Frames of the window: the model also reads the silence behind shorter utterances."""

    @property
    def num_read_B(self) -> Tensor:
        """Frames of each utterance that the model reads: the real ones, and silence up to the window's end."""
        return self.num_frames_B.clamp(min=self.num_window)


class Frames(NamedTuple):
    """Encoder frames; those behind an utterance's end and the window hold no meaning."""

    values_BTD: Tensor
    num_frames_B: Tensor
    """Real frames of each utterance, int64, about 50 a second."""
    num_window: int = 0
    """Frames of the window: the decoder also attends to the silence behind shorter utterances."""

    @property
    def num_read_B(self) -> Tensor:
        """Frames of each utterance that may be attended to: the real ones, and silence up to the window's end."""
        return self.num_frames_B.clamp(min=self.num_window)

    @property
    def is_real_BT(self) -> Tensor:
        """True at the frames of the recording itself; pooling and gates read these alone."""
        return frame_mask(self.num_frames_B, self.values_BTD.shape[1])

    def repeated(self, times: int) -> "Frames":
        """Each utterance's frames so many times, one after another."""
        values_NTD, num_frames_N = (part.repeat_interleave(times, dim=0) for part in self[:2])
        return Frames(values_NTD, num_frames_N, self.num_window)


class TokenLoss(NamedTuple):
    """Negative log-likelihood of each utterance's transcript; float32, nats."""

    sum_B: Tensor
    num_tokens_B: Tensor
    """What it is divided by for a loss a token: text tokens, and the end of text where the model writes one."""

    @property
    def a_token(self) -> Tensor:
        """Mean over all tokens of the batch, a scalar."""
        return self.sum_B.sum() / self.num_tokens_B.sum()


@dataclass(frozen=True)
class DecodeOptions:
    """Settings of the search for transcripts."""

    max_tokens: int = MAX_TOKENS
    """Behind the prompt, at most; the decoder has 448 positions in all."""
    guard: bool = True
    """End an utterance whose text runs in a loop, and write nothing where ``speech_B`` and the model hear no speech.
    Without it, decoding is that of transformers, token for token."""
    speech_B: Tensor | None = None
    """Probability that each utterance holds speech (`activity.speech_probs`); None where nobody has listened for it."""


DECODE = DecodeOptions()


class Notes(NamedTuple):
    """Findings of the guard in an utterance."""

    has_looped: bool = False
    """Its text ran in a loop, and ends where a phrase would be said for the second time."""
    is_silenced: bool = False
    """It holds no speech, and has no text."""


class Hypotheses(NamedTuple):
    """Transcripts of a batch, and how sure the model is of them."""

    texts: list[str]
    scores_B: Tensor
    """Mean log-probability of the chosen tokens (frames of a CTC model), float32, at most 0."""
    tokens: list[list[int]]
    """Tokens that the model wrote behind the prompt, without the end of text; labels of a CTC model."""
    notes: list[Notes]


class Detected(NamedTuple):
    """The language that a model hears in an utterance."""

    language: str
    """Its code: en, fr ..."""
    probability: float
    """Among the languages that the model knows."""


class SpeechBackbone(nn.Module, ABC):
    """A recogniser of transformers, taken apart where experts and gate need to reach in.

    Args:
        model: The transformers model; its linear layers may be replaced by gated ones.
        window: Seconds that it reads at least; 0 stands for real lengths.
    """

    averages: tuple[Average, ...] = get_args(Average)
    """Of experts side by side, what the model can decode by."""

    def __init__(self, model: nn.Module, window: float):
        super().__init__()
        self.model: Any = model
        self.window = window

    @property
    def own_window(self) -> float:
        """Seconds of the window that the model was trained with; the bare model is scored over it."""
        return own_window(self.model.config, self.model.config.model_type)

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """Size of an encoder frame."""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """Layers of the encoder."""

    @abstractmethod
    def features(self, waveforms_BL: Tensor, num_samples_B: Tensor, window: float | None = None) -> Features:
        """What the encoder reads of waveforms (16 kHz, zeros behind each end).

        Args:
            window: Seconds, in place of the backbone's setting.

        Raises:
            InputError: An utterance is longer than the model can take.
        """

    @abstractmethod
    def stem(self, features: Features) -> Frames:
        """What the first encoder layer reads."""

    @abstractmethod
    def run_layers(self, frames: Frames, first: int = 0, last: int | None = None) -> Frames:
        """Frames behind the encoder layers ``first`` to ``last`` (that one not included).

        Args:
            frames: What layer ``first`` reads: of `stem`, or of `run_layers` up to ``first``.
            last: None runs to the end; only then is the final layer norm applied.
        """

    @property
    def detects_languages(self) -> bool:
        """True where the model must be told a language, and can also name the one that it hears."""
        return False

    @property
    def only_language(self) -> str | None:
        """The one language that the model writes, where that is known."""
        return None

    def check_language(self, language: str) -> None:
        """Raise an InputError for a language that the model cannot write."""

    def asked_language(self, language: str) -> str | None:
        """The code of a language as a user writes it.

        Args:
            language: A code, a name, or ``auto``.

        Returns:
            Under ``auto`` the only language of the model, None where it has several or does not say.

        Raises:
            InputError: It is no language, or one that the model cannot write.
        """
        if language == "auto":
            return self.only_language
        code = language_code(language)
        if code is None:
            raise InputError(f"--language {language} is no language; give a code such as en or fr, or auto")
        self.check_language(code)
        return code

    def detect_languages(self, frames: Frames) -> list[Detected]:
        """The likeliest language of each utterance, of a model that `detects_languages`.

        Args:
            frames: Of the bare encoder over its own window.
        """
        raise InputError("this speech model names no languages; leave --language auto out")

    def held(self) -> Callable[[], AbstractContextManager[None]]:
        """Makes a context in which the model is in the midst of the pass that it is in now.

        A layer that is run again for its gradient, after the pass, needs the masks of that pass.
        """
        return nullcontext

    def search(self, num_beams: int) -> None:
        """Decode with so many hypotheses side by side from now on.

        Raises:
            InputError: The model decodes greedily only, or the number is not positive.
        """
        if num_beams != 1:
            raise InputError(f"num_beams is {num_beams}, and only CTC models search with beams; Whisper takes 1")

    @abstractmethod
    def targets(self, texts: Sequence[str], languages: Sequence[str | None]) -> Targets:
        """Labels of transcripts, on the model's device.

        Raises:
            InputError: A transcript is longer than the model can write, or has nothing that it can write.
        """

    def check_text(self, text: str, language: str | None) -> None:
        """Raise an InputError for a transcript that `targets` refuses; the way out is named."""
        self.targets([text], [language])

    @abstractmethod
    def token_loss(self, frames: Frames, targets: Targets, weights_BK: Tensor | None = None) -> TokenLoss:
        """Negative log-likelihood of the transcripts, by utterance.

        Args:
            weights_BK: Weights of the experts whose rows ``frames`` holds side by side; rows sum to 1.
        """

    @abstractmethod
    def decode(
        self,
        frames: Frames,
        languages: Sequence[str | None],
        weights_BK: Tensor | None = None,
        average: Average = "arithmetic",
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Transcripts of the frames.

        Args:
            weights_BK: Weights of the experts whose rows ``frames`` holds side by side; rows sum to 1.
            average: How their probabilities become one.
        """

    def encode(self, features: Features, num_layers: int | None = None) -> Frames:
        """Encoder frames of features, behind so many layers, or behind all and the final layer norm."""
        last = None if num_layers is None or num_layers >= self.num_layers else num_layers
        return self.run_layers(self.stem(features), 0, last)


def frame_mask(lengths_B: Tensor, width: int) -> Tensor:
    """True at the real frames, (B, width)."""
    return torch.arange(width, device=lengths_B.device) < lengths_B[:, None]


def mean_log_probs(log_probs_NSV: Tensor, weights_BK: Tensor | None, average: Average = "arithmetic") -> Tensor:
    """Log of the weighted mean of K experts' probabilities, (B, S, V) of (B * K, S, V); float32."""
    if weights_BK is None:
        return log_probs_NSV
    log_probs_BKSV = log_probs_NSV.float().unflatten(0, weights_BK.shape)
    if average == "geometric":
        weights_BK11 = weights_BK.float()[..., None, None]
        return (log_probs_BKSV.clamp_min(-1e4) * weights_BK11).sum(dim=1).log_softmax(dim=-1)  # 0 * -inf is NaN
    return (log_probs_BKSV + weights_BK.float().clamp_min(1e-30).log()[..., None, None]).logsumexp(dim=1)
