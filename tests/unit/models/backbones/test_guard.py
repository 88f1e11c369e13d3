"""The guard of decoding, on models of random weights: they loop, or hear no speech, by construction."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.decoding import DecodeOptions, Hypotheses
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.whisper import WhisperBackbone
from tests.ctc_models import write_ctc

LENGTHS = (16_000, 40_123, 30_001, 5_000)
LANGUAGES = ["en"] * 4
EXACT = DecodeOptions(guard=False)
SILENT, DOUBTFUL, SPEECH = 0.01, 0.2, 0.9


@pytest.fixture(scope="module")
def backbone(tiny_whisper: Path) -> WhisperBackbone:
    return WhisperBackbone.load(str(tiny_whisper)).eval()


@pytest.fixture(scope="module")
def frames(backbone: WhisperBackbone) -> Frames:
    return frames_of(backbone)


@torch.no_grad()
def frames_of(backbone: WhisperBackbone, rows: slice = slice(None)) -> Frames:
    generator = torch.Generator().manual_seed(0)
    waveforms = [0.1 * torch.randn(length, generator=generator) for length in LENGTHS][rows]
    num_samples_B = torch.tensor([len(waveform_L) for waveform_L in waveforms])
    return backbone.encode(
        backbone.features(torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), num_samples_B)
    )


def parts(found: Hypotheses) -> list[tuple]:
    return list(zip(found.texts, found.tokens, found.notes, strict=True))


def constant(backbone: WhisperBackbone, token: int) -> None:
    """From now on the model says one token, whatever it hears and reads."""
    norm = backbone.model.model.decoder.layer_norm
    norm.weight.data.zero_()
    norm.bias.data.fill_(1.0)
    backbone.model.proj_out.weight.data[token] = 10.0


def test_a_model_that_loops_is_cut_off_and_what_is_left_is_its_beginning(
    backbone: WhisperBackbone, frames: Frames
) -> None:
    exact, found = (backbone.decode(frames, LANGUAGES, options=options) for options in (EXACT, DecodeOptions()))
    assert [note.has_looped for note in found.notes] == [True] * 4
    assert [note.has_looped for note in exact.notes] == [False] * 4
    for own, theirs in zip(found.tokens, exact.tokens, strict=True):
        assert len(own) < 100 < len(theirs)
        assert own == theirs[: len(own)]


def test_company_in_the_batch_changes_no_loop(backbone: WhisperBackbone, frames: Frames) -> None:
    together = parts(backbone.decode(frames, LANGUAGES))
    for row in range(4):
        alone = frames_of(backbone, slice(row, row + 1)) if not row else Frames(
            frames.values_BTD[row : row + 1, : int(frames.num_frames_B[row])], frames.num_frames_B[row : row + 1]
        )  # fmt: skip
        assert parts(backbone.decode(alone, ["en"])) == together[row : row + 1]


def test_experts_side_by_side_loop_as_one(backbone: WhisperBackbone, frames: Frames) -> None:
    weights_BK = torch.full((4, 2), 0.5)
    for average in backbone.averages:
        options = DecodeOptions(speech_B=torch.tensor([SPEECH, SILENT, SPEECH, SPEECH]))
        twice = parts(backbone.decode(frames.repeated(2), LANGUAGES, weights_BK, average, options))
        assert twice == parts(backbone.decode(frames, LANGUAGES, options=options))


def test_the_guard_changes_nothing_where_nothing_loops(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper)).eval()
    constant(backbone, backbone.tokens.end)
    frames = frames_of(backbone)
    exact, found = (backbone.decode(frames, LANGUAGES, options=options) for options in (EXACT, DecodeOptions()))
    assert parts(exact) == parts(found)
    assert not any(note.has_looped for note in found.notes)
    torch.testing.assert_close(exact.scores_B, found.scores_B)


def test_silence_has_no_text_and_its_company_keeps_theirs(backbone: WhisperBackbone, frames: Frames) -> None:
    options = DecodeOptions(speech_B=torch.tensor([SPEECH, SILENT, SPEECH, DOUBTFUL]))
    found, all_speech = (backbone.decode(frames, LANGUAGES, options=one) for one in (options, DecodeOptions()))
    assert [note.is_silenced for note in found.notes] == [False, True, False, False]
    assert (found.texts[1], found.tokens[1], float(found.scores_B[1])) == ("", [], 0.0)
    for row in (0, 2, 3):
        assert parts(found)[row] == parts(all_speech)[row]


@pytest.mark.parametrize("hears_nothing", [True, False])
def test_where_speech_is_in_doubt_the_model_decides(tiny_whisper: Path, hears_nothing: bool) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper)).eval()
    assert backbone.tokens.no_speech is not None
    constant(backbone, backbone.tokens.no_speech if hears_nothing else 65)
    speech_B: Tensor = torch.tensor([SPEECH, SILENT, DOUBTFUL, DOUBTFUL])
    found = backbone.decode(frames_of(backbone), LANGUAGES, options=DecodeOptions(speech_B=speech_B))
    assert [note.is_silenced for note in found.notes] == [False, True, hears_nothing, hears_nothing]


def test_without_the_guard_silence_is_written_as_it_is_heard(backbone: WhisperBackbone, frames: Frames) -> None:
    options = DecodeOptions(max_tokens=30, guard=False, speech_B=torch.full((4,), SILENT))
    found = backbone.decode(frames, LANGUAGES, options=options)
    assert parts(found) == parts(backbone.decode(frames, LANGUAGES, options=DecodeOptions(max_tokens=30, guard=False)))
    assert all(len(tokens) == 30 for tokens in found.tokens)


def test_a_ctc_model_writes_nothing_for_silence(tmp_path: Path) -> None:
    backbone = load_backbone(str(write_ctc(tmp_path))).eval()
    waveforms_BL = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    frames = backbone.encode(backbone.features(waveforms_BL, torch.tensor([16_000] * 3)))
    options = DecodeOptions(speech_B=torch.tensor([SPEECH, SILENT, DOUBTFUL]))
    found, unasked = (backbone.decode(frames, [None] * 3, options=one) for one in (options, DecodeOptions()))
    assert found.texts == [unasked.texts[0], "", unasked.texts[2]]
    assert all(unasked.texts)
    assert [note.is_silenced for note in found.notes] == [False, True, False]
