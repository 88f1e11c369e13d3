"""CTCBackbone: an encoder with a token or the blank at each frame, its loss and its decoding.

CTC: Graves et al. 2006, Connectionist Temporal Classification. The encoders are in `wav2vec2` and
`w2v_bert`. A model saved without a CTC head (such as `Wav2Vec2Model`) embeds and does not recognise.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.activity import is_silent
from moe_lightning.models.backbones.base import Average, Frames, SpeechBackbone, TokenLoss, mean_log_probs
from moe_lightning.models.backbones.decoding import DECODE, DecodeOptions, Hypotheses, Notes
from moe_lightning.models.backbones.pretrained import CTCParts, load_ctc
from moe_lightning.models.backbones.tokens import IGNORED, CTCTokens, Targets
from moe_lightning.models.backbones.window import REAL, Window, parse_window, window_words

SAMPLE_RATE = 16_000


class CTCBackbone(SpeechBackbone):
    """Labels, loss and decoding, common to all CTC models.

    No language can be requested: it is fixed by the training of the head.

    Args:
        parts: Model, feature extractor, and tokenizer if there is a CTC head.

    Raises:
        InputError: ``window`` is one of Whisper's, or the parts do not fit each other.
    """

    def __init__(self, parts: CTCParts, window: Window = "auto"):
        check_window(parse_window(window) or REAL)
        if parts.extractor.sampling_rate != SAMPLE_RATE:
            raise InputError(
                "model.unfit",
                f"the speech model takes {parts.extractor.sampling_rate} Hz, not {SAMPLE_RATE}",
                parts.extractor.sampling_rate,
            )
        super().__init__(parts.model, REAL)
        self.extractor = parts.extractor
        self.tokens = CTCTokens(parts.tokenizer, parts.model.config.vocab_size) if parts.tokenizer else None
        self.num_impossible = 0
        """Utterances left out by `token_loss`: too few frames for their labels."""

    @classmethod
    def load(cls, whisper_model: str, window: Window = "auto") -> "CTCBackbone":
        """Load by name: a hub id or a folder."""
        check_window(parse_window(window) or REAL)
        return cls(load_ctc(whisper_model), window)

    @property
    def encoder(self) -> Any:
        """The transformers model below the CTC head."""
        return self.model.base_model

    @property
    def adapter(self) -> nn.Module | None:
        """Layers after the encoder that shorten the frames (``add_adapter``), if any."""
        return getattr(self.encoder, "adapter", None)

    @property
    def embedding_dim(self) -> int:
        """Frame size after the last layer and, if there is one, the adapter."""
        config = self.model.config
        return int(config.hidden_size if self.adapter is None else config.output_hidden_size)

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return len(self.encoder.encoder.layers)

    def check_options(self, options: DecodeOptions) -> None:
        """Raise an InputError for a number of beams that is not positive."""
        if options.num_beams < 1:
            raise InputError(
                "setting.range",
                f"num_beams must be at least 1, got {options.num_beams}",
                f"num_beams={options.num_beams}",
            )

    def targets(self, texts: Sequence[str], languages: Sequence[str | None]) -> Targets:
        """Labels of transcripts, on the model's device."""
        labels_BS = self._writer().targets(texts).labels_BS.to(self.model.device)
        return Targets(labels_BS, labels_BS)

    def token_loss(self, frames: Frames, targets: Targets, weights_BK: Tensor | None = None) -> TokenLoss:
        """CTC loss of the transcripts, by utterance; ``num_tokens_B`` counts labels.

        An utterance with too few frames (one per label, and a blank between two equal labels) has a loss
        of 0 and trains nothing; `num_impossible` counts it.
        """
        self._writer()
        log_probs_BTV, num_frames_B = self.frame_log_probs(frames, weights_BK)
        labels_BS, is_label_BS = targets.labels_BS.clamp(min=0), targets.labels_BS != IGNORED
        num_labels_B = is_label_BS.sum(dim=1)
        is_twice_BS = (labels_BS[:, 1:] == labels_BS[:, :-1]) & is_label_BS[:, 1:]
        self._count_impossible(num_frames_B < num_labels_B + is_twice_BS.sum(dim=1))
        if torch.are_deterministic_algorithms_enabled():  # CUDA's CTC gradient is not deterministic
            log_probs_BTV, num_frames_B = log_probs_BTV.cpu(), num_frames_B.cpu()
            labels_BS, num_labels_B = labels_BS.cpu(), num_labels_B.cpu()
        loss_B = F.ctc_loss(
            log_probs_BTV.transpose(0, 1),
            labels_BS,
            num_frames_B,
            num_labels_B,
            blank=self._writer().blank,
            reduction="none",
            zero_infinity=True,
        )
        device = frames.values_BTD.device
        return TokenLoss(loss_B.to(device), num_labels_B.to(device))

    def decode(
        self,
        frames: Frames,
        languages: Sequence[str | None],
        weights_BK: Tensor | None = None,
        average: Average = "arithmetic",
        options: DecodeOptions = DECODE,
    ) -> Hypotheses:
        """Transcripts by the likeliest path, or by beam search.

        Args:
            weights_BK: Weights of the experts side by side in ``frames``; rows sum to 1.
            average: Mean of their probabilities at each frame.
        """
        writer = self._writer()
        log_probs_BTV, num_frames_B = self.frame_log_probs(frames, weights_BK, average)
        rows = zip(log_probs_BTV.detach().cpu(), num_frames_B.tolist(), strict=True)
        found = [
            labelling(log_probs_TV[:num_frames], writer.blank, options.num_beams) for log_probs_TV, num_frames in rows
        ]
        scores_B = log_probs_BTV.new_tensor([each.log_prob for each in found]) / num_frames_B
        notes = _silence(options, len(found))
        labels = [[] if note.is_silenced else each.labels for each, note in zip(found, notes, strict=True)]
        return Hypotheses([writer.text(row) for row in labels], scores_B, labels, notes)

    def frame_log_probs(
        self, frames: Frames, weights_BK: Tensor | None = None, average: Average = "arithmetic"
    ) -> tuple[Tensor, Tensor]:
        """Token log-probabilities at each frame, ``(B, T, V)``, float32, and real frames of each utterance."""
        logits_NTV = self.model.lm_head(self.model.dropout(frames.values_BTD)).float()
        num_side_by_side = 1 if weights_BK is None else weights_BK.shape[1]
        log_probs_BTV = mean_log_probs(logits_NTV.log_softmax(dim=-1), weights_BK, average)
        return log_probs_BTV, frames.num_frames_B[::num_side_by_side]

    def _writer(self) -> CTCTokens:
        """Tokens of a model with a CTC head.

        Raises:
            InputError: It is an encoder alone.
        """
        if self.tokens is None:
            raise InputError(
                "model.unfit",
                f"the speech model {self.model.config.name_or_path!r} is an encoder without a CTC head: it can embed,"
                " not recognise; take a model that was fine-tuned for recognition (its config says ...ForCTC)",
                self.model.config.name_or_path,
            )
        return self.tokens

    def _count_impossible(self, is_impossible_B: Tensor) -> None:
        count = int(is_impossible_B.sum())
        if count and not self.num_impossible:
            warnings.warn("an utterance has fewer frames than its transcript has labels: it is left out", stacklevel=3)
        self.num_impossible += count


def _silence(options: DecodeOptions, num_utterances: int) -> list[Notes]:
    """Notes on silence; a CTC model writes one label per frame and cannot loop."""
    if options.speech_B is None or not options.guard:
        return [Notes()] * num_utterances
    return [Notes(is_silenced=one) for one in is_silent(options.speech_B).tolist()]


def check_window(seconds: float) -> None:
    """Raise an InputError for a window with silence: only Whisper has one."""
    if seconds != REAL:
        raise InputError(
            "setting.conflict",
            f"window {window_words(seconds)} is for Whisper; a CTC model takes window real, or auto",
            f"window={seconds}",
        )


NEVER = -math.inf


class Labelling(NamedTuple):
    """Labels of an utterance, without repeats and blanks, and their log-probability."""

    labels: list[int]
    log_prob: float
    """Nats; of the path (`best_path`), or of all paths that collapse to the labels (`beam_search`)."""


class _Ending(NamedTuple):
    """Log-probability of all paths that collapse to a prefix, by their last frame."""

    blank: float
    label: float

    @property
    def total(self) -> float:
        return log_add(self.blank, self.label)


def labelling(log_probs_TV: Tensor, blank: int, num_beams: int) -> Labelling:
    """The likeliest path for one beam, beam search for more."""
    return best_path(log_probs_TV, blank) if num_beams == 1 else beam_search(log_probs_TV, blank, num_beams)


def best_path(log_probs_TV: Tensor, blank: int) -> Labelling:
    """The likeliest token of each frame, collapsed."""
    best_T, tokens_T = log_probs_TV.max(dim=1)
    collapsed = torch.unique_consecutive(tokens_T).tolist()
    return Labelling([token for token in collapsed if token != blank], float(best_T.sum()))


def beam_search(log_probs_TV: Tensor, blank: int, num_beams: int) -> Labelling:
    """The likeliest labels, summed over their paths.

    Prefix beam search, Hannun et al. 2014, arXiv:1408.2873, algorithm 1, without a language model. Only the
    ``num_beams + 1`` likeliest tokens of a frame extend a prefix: the others would fall out of the beam.
    """
    beams: dict[tuple[int, ...], _Ending] = {(): _Ending(0.0, NEVER)}
    num_tokens = min(num_beams + 1, log_probs_TV.shape[1])
    tokens_TK = log_probs_TV.topk(num_tokens, dim=1).indices.tolist()
    for log_probs, tokens in zip(log_probs_TV.tolist(), tokens_TK, strict=True):
        grown: dict[tuple[int, ...], _Ending] = {}
        for prefix, ending in beams.items():
            _grow(grown, prefix, ending, log_probs, [token for token in tokens if token != blank], blank)
        best = sorted(grown.items(), key=lambda item: item[1].total, reverse=True)[:num_beams]
        beams = dict(best)
    labels, ending = max(beams.items(), key=lambda item: item[1].total)
    return Labelling(list(labels), ending.total)


def _grow(
    grown: dict[tuple[int, ...], _Ending],
    prefix: tuple[int, ...],
    ending: _Ending,
    log_probs: list[float],
    tokens: list[int],
    blank: int,
) -> None:
    """Add a prefix's paths through one frame to those of the next frame."""
    last = prefix[-1] if prefix else None
    repeated = NEVER if last is None else ending.label + log_probs[last]
    _add(grown, prefix, _Ending(ending.total + log_probs[blank], repeated))
    for token in tokens:
        before = ending.blank if token == last else ending.total  # a label twice needs a blank between
        _add(grown, (*prefix, token), _Ending(NEVER, before + log_probs[token]))


def _add(grown: dict[tuple[int, ...], _Ending], prefix: tuple[int, ...], ending: _Ending) -> None:
    known = grown.get(prefix, _Ending(NEVER, NEVER))
    grown[prefix] = _Ending(log_add(known.blank, ending.blank), log_add(known.label, ending.label))


def log_add(one: float, other: float) -> float:
    """``log(exp(one) + exp(other))``."""
    low, high = min(one, other), max(one, other)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
