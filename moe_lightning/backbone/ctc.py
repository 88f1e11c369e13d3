"""CTCBackbone: an encoder with a token or the blank at each frame, its loss and its decoding.

CTC: Graves et al. 2006, Connectionist Temporal Classification. The encoders are in `wav2vec2` and
`w2v_bert`. A model saved without a CTC head (such as `Wav2Vec2Model`) embeds and does not recognise.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_lightning.backbone.activity import is_silent
from moe_lightning.backbone.ctc_decoding import labelling
from moe_lightning.backbone.ctc_tokens import CTCTokens
from moe_lightning.backbone.pretrained import CTCParts, load_ctc
from moe_lightning.backbone.speech import (
    DECODE,
    Average,
    DecodeOptions,
    Frames,
    Hypotheses,
    Notes,
    SpeechBackbone,
    TokenLoss,
    mean_log_probs,
)
from moe_lightning.backbone.tokens import IGNORED, Targets
from moe_lightning.backbone.window import REAL, Window, parse_window, window_words
from moe_lightning.errors import InputError

SAMPLE_RATE = 16_000


class CTCBackbone(SpeechBackbone):
    """Labels, loss and decoding, common to all CTC models.

    No language can be requested: it is fixed by the training of the head.

    Args:
        parts: Model, feature extractor, and tokenizer if there is a CTC head.
        num_beams: Hypotheses kept in decoding; 1 takes the likeliest path.

    Raises:
        InputError: ``window`` is one of Whisper's, or the parts do not fit each other.
    """

    def __init__(self, parts: CTCParts, window: Window = "auto", num_beams: int = 1):
        check_window(parse_window(window) or REAL)
        if parts.extractor.sampling_rate != SAMPLE_RATE:
            raise InputError(f"the speech model takes {parts.extractor.sampling_rate} Hz, not {SAMPLE_RATE}")
        super().__init__(parts.model, REAL)
        self.extractor = parts.extractor
        self.search(num_beams)
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

    def search(self, num_beams: int) -> None:
        """Set the number of beams for later decoding; 1 takes the likeliest path.

        Raises:
            InputError: The number is not positive.
        """
        if num_beams < 1:
            raise InputError(f"num_beams must be at least 1, got {num_beams}")
        self.num_beams = num_beams

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
        num_beams: int | None = None,
    ) -> Hypotheses:
        """Transcripts by the likeliest path, or by beam search.

        Args:
            weights_BK: Weights of the experts side by side in ``frames``; rows sum to 1.
            average: Mean of their probabilities at each frame.
            num_beams: Replaces the backbone's own number.
        """
        writer, num_beams = self._writer(), num_beams or self.num_beams
        log_probs_BTV, num_frames_B = self.frame_log_probs(frames, weights_BK, average)
        rows = zip(log_probs_BTV.detach().cpu(), num_frames_B.tolist(), strict=True)
        found = [labelling(log_probs_TV[:num_frames], writer.blank, num_beams) for log_probs_TV, num_frames in rows]
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
                f"the speech model {self.model.config.name_or_path!r} is an encoder without a CTC head: it can embed,"
                " not recognise; take a model that was fine-tuned for recognition (its config says ...ForCTC)"
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
        raise InputError(f"window {window_words(seconds)} is for Whisper; a CTC model takes window real, or auto")
