"""SpeechBackbone: the interface that a speech model needs to carry experts.

Audio becomes features, features become encoder frames, layer by layer, and frames become a loss or
text. An utterance's result does not depend on its batch.

Several experts side by side: with ``weights_BK``, frames hold B * K rows, the K experts of the first
utterance, then those of the second. At each token (or frame of a CTC model) the probabilities of an
utterance's K rows are averaged with these weights: a mixture of the experts' outputs, not of their
parameters. Decoding can also take their weighted geometric mean, a product of experts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from moe_lightning.data.languages import language_code
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Hypotheses
from moe_lightning.models.backbones.tokens import Targets
from moe_lightning.models.backbones.window import own_window

Average = Literal["arithmetic", "geometric"]
"""Mean of the probabilities of experts side by side: ``sum_k w_k p_k``, or ``prod_k p_k ^ w_k`` normalised to sum 1."""


class Features(NamedTuple):
    """Input of an encoder; zero after the ``num_read_B`` frames of an utterance."""

    values_BMT: Tensor
    """Float32. A spectrogram has M mel bins; a waveform has one, and 16,000 frames a second."""
    num_frames_B: Tensor
    """Real frames of each utterance, int64."""
    num_window: int = 0
    """Frames of the window: the model also reads the silence after shorter utterances."""

    @property
    def num_read_B(self) -> Tensor:
        """Frames read per utterance: the real ones, and silence up to the window's end."""
        return self.num_frames_B.clamp(min=self.num_window)


class Frames(NamedTuple):
    """Encoder frames; those after an utterance's end and the window are meaningless."""

    values_BTD: Tensor
    num_frames_B: Tensor
    """Real frames of each utterance, int64, about 50 a second."""
    num_window: int = 0
    """Frames of the window: the decoder also attends to the silence after shorter utterances."""

    @property
    def num_read_B(self) -> Tensor:
        """Frames open to attention per utterance: the real ones, and silence up to the window's end."""
        return self.num_frames_B.clamp(min=self.num_window)

    @property
    def is_real_BT(self) -> Tensor:
        """True at the frames of the recording itself; pooling and gates read these alone."""
        return frame_mask(self.num_frames_B, self.values_BTD.shape[1])

    def repeated(self, times: int) -> "Frames":
        """Each utterance's frames ``times`` times in consecutive rows."""
        values_NTD, num_frames_N = (part.repeat_interleave(times, dim=0) for part in self[:2])
        return Frames(values_NTD, num_frames_N, self.num_window)


class TokenLoss(NamedTuple):
    """Negative log-likelihood of each utterance's transcript; float32, nats."""

    sum_B: Tensor
    num_tokens_B: Tensor
    """Divisor for a loss per token: text tokens, and the end of text if the model writes one."""

    @property
    def a_token(self) -> Tensor:
        """Mean over all tokens of the batch, a scalar."""
        return self.sum_B.sum() / self.num_tokens_B.sum()


class Detected(NamedTuple):
    """The language detected in an utterance."""

    language: str
    """Its code: en, fr ..."""
    probability: float
    """Among the model's languages."""


class PassValues(NamedTuple):
    """Values for one forward pass."""

    mix: Any = None
    """Expert weights of each row, a `lora.Mix`; None runs the frozen backbone alone."""
    cross_mask_B11T: Tensor | None = None
    """True at encoder frames open to the decoder's cross-attention; None opens all."""


class PassState:
    """The one place for ambient state of a speech model; all its layers share it.

    The layers are those of transformers. Their forward has no argument for the experts' weights, and the decoder has
    none for a cross-attention mask. So a pass sets both here for its duration, and each layer reads them here. Outside
    of a pass both are None: the model is the frozen backbone, as transformers made it.
    """

    def __init__(self) -> None:
        self.now = PassValues()

    @contextmanager
    def holding(self, **values: Any) -> Iterator[None]:
        """Context of a pass with these values; the others stay."""
        before, self.now = self.now, self.now._replace(**values)
        try:
            yield
        finally:
            self.now = before

    def kept(self) -> Callable[[], AbstractContextManager[None]]:
        """Factory of a context with the present values: a layer runs again for its gradient after the pass."""
        return partial(self.holding, **self.now._asdict())


class SpeechBackbone(nn.Module, ABC):
    """A recogniser from transformers, split into the parts that experts and gate need.

    Args:
        model: The transformers model; gated layers may replace its linear layers.
        window: Minimum input in seconds; 0 for real lengths.
    """

    averages: tuple[Average, ...] = get_args(Average)
    """Means over experts side by side that decoding supports."""

    def __init__(self, model: nn.Module, window: float):
        super().__init__()
        self.model: Any = model
        self.window = window
        self.state = PassState()

    @property
    def own_window(self) -> float:
        """Training window of the model in seconds; the bare model is scored over it."""
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
        """Encoder input of waveforms (16 kHz, zero-padded at the end).

        Args:
            window: Seconds; replaces the backbone's setting.

        Raises:
            InputError: An utterance is longer than the model can take.
        """

    @abstractmethod
    def stem(self, features: Features) -> Frames:
        """Input of the first encoder layer."""

    @abstractmethod
    def run_layers(self, frames: Frames, first: int = 0, last: int | None = None) -> Frames:
        """Frames after the encoder layers ``first`` to ``last`` (exclusive).

        Args:
            frames: Input of layer ``first``: from `stem`, or from `run_layers` up to ``first``.
            last: None runs to the end; only then is the final layer norm applied.
        """

    @property
    def detects_languages(self) -> bool:
        """True if the model needs a language and can detect it."""
        return False

    @property
    def only_language(self) -> str | None:
        """The model's only language, if known."""
        return None

    def check_language(self, language: str) -> None:
        """Raise an InputError for a language that the model cannot write."""

    def asked_language(self, language: str) -> str | None:
        """Code of a language in a user's words.

        Args:
            language: A code, a name, or ``auto``.

        Returns:
            For ``auto`` the model's only language, None if it has several or does not say.

        Raises:
            InputError: It is no language, or the model cannot write it.
        """
        if language == "auto":
            return self.only_language
        code = language_code(language)
        if code is None:
            raise InputError(
                "language.unknown", f"--language {language} is no language; give a code such as en, or auto", language
            )
        try:
            self.check_language(code)
        except InputError as error:
            raise InputError(error.code, f"--language {language}: {error}", error.value) from error
        return code

    def detect_languages(self, frames: Frames) -> list[Detected]:
        """The likeliest language of each utterance, for a model that `detects_languages`.

        Args:
            frames: From the bare encoder over its own window.
        """
        raise InputError(
            "language.unsupported", "this speech model names no languages; leave --language auto out", "auto"
        )

    def check_options(self, options: DecodeOptions) -> None:
        """Raise an InputError for options that the model cannot decode by."""
        if options.num_beams != 1:
            raise InputError(
                "setting.conflict",
                f"num_beams is {options.num_beams}, and only CTC models search with beams; Whisper takes 1",
                f"num_beams={options.num_beams}",
            )

    @abstractmethod
    def targets(self, texts: Sequence[str], languages: Sequence[str | None]) -> Targets:
        """Labels of transcripts, on the model's device.

        Raises:
            InputError: A transcript is too long for the model, or holds nothing that it can write.
        """

    def check_text(self, text: str, language: str | None) -> None:
        """Raise an InputError, with a way out, for a transcript that `targets` refuses."""
        self.targets([text], [language])

    def left_out_of(self, text: str) -> str:
        """The characters of a transcript that are left out of the labels, because the model cannot write them."""
        return ""

    @abstractmethod
    def token_loss(self, frames: Frames, targets: Targets, weights_BK: Tensor | None = None) -> TokenLoss:
        """Negative log-likelihood of the transcripts, by utterance.

        Args:
            weights_BK: Weights of the experts side by side in ``frames``; rows sum to 1.
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
            weights_BK: Weights of the experts side by side in ``frames``; rows sum to 1.
            average: Mean of their probabilities.
        """

    def encode(self, features: Features, num_layers: int | None = None) -> Frames:
        """Encoder frames after ``num_layers`` layers, or after all and the final layer norm."""
        last = None if num_layers is None or num_layers >= self.num_layers else num_layers
        return self.run_layers(self.stem(features), 0, last)


def frame_mask(lengths_B: Tensor, width: int) -> Tensor:
    """True at the real frames, (B, width)."""
    return torch.arange(width, device=lengths_B.device) < lengths_B[:, None]


def mean_log_probs(log_probs_NSV: Tensor, weights_BK: Tensor | None, average: Average = "arithmetic") -> Tensor:
    """Log of the weighted mean of K experts' probabilities, (B * K, S, V) to (B, S, V); float32."""
    if weights_BK is None:
        return log_probs_NSV
    log_probs_BKSV = log_probs_NSV.float().unflatten(0, weights_BK.shape)
    if average == "geometric":
        weights_BK11 = weights_BK.float()[..., None, None]
        return (log_probs_BKSV.clamp_min(-1e4) * weights_BK11).sum(dim=1).log_softmax(dim=-1)  # 0 * -inf is NaN
    return (log_probs_BKSV + weights_BK.float().clamp_min(1e-30).log()[..., None, None]).logsumexp(dim=1)
