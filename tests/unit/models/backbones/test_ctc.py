"""Labels, loss and text of CTC models, against transformers, torch and counting by hand."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.ctc import CTCBackbone, beam_search, best_path
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.tokens import IGNORED
from tests.ctc_models import write_ctc
from tests.refusals import refuses
from tests.unit.models.backbones.test_ctc_encoders import encode, waveforms

TEXTS, LANGUAGES = ["one", "deux mots", "hello there"], ["en", "fr", None]


@pytest.fixture(scope="module")
def backbone(tiny_ctc: Path) -> CTCBackbone:
    backbone = load_backbone(str(tiny_ctc)).eval()
    assert isinstance(backbone, CTCBackbone)
    return backbone


@pytest.fixture(scope="module")
def frames(backbone: CTCBackbone) -> Frames:
    return encode(backbone, *waveforms())


def test_labels_are_the_tokenizers_in_the_case_of_its_vocabulary(backbone: CTCBackbone) -> None:
    assert backbone.tokens is not None
    labels_BS = backbone.targets(["It's  one ", "deux"], ["en", "fr"]).labels_BS
    assert labels_BS[0].tolist() == backbone.tokens.tokenizer("IT'S ONE")["input_ids"]
    assert labels_BS[1].tolist() == [*backbone.tokens.tokenizer("DEUX")["input_ids"], *[IGNORED] * 4]
    assert backbone.tokens.text(labels_BS[0].tolist()) == "IT'S ONE"


def test_what_the_vocabulary_lacks_is_left_out_with_a_warning(backbone: CTCBackbone) -> None:
    with pytest.warns(UserWarning, match=r"no token for all of 'CAFÉ 5!'"):
        labels_BS = backbone.targets(["café 5!"], [None]).labels_BS
    assert labels_BS.tolist() == backbone.targets(["caf "], [None]).labels_BS.tolist()
    assert backbone.targets(["- a - b -"], [None]).labels_BS.tolist() == (
        backbone.targets(["a b"], [None]).labels_BS.tolist()
    )


def test_a_transcript_of_unknown_characters_alone_is_refused(backbone: CTCBackbone) -> None:
    with refuses("transcript.no-words", "123"):
        backbone.targets(["one", "123"], [None, None])


def test_the_loss_is_that_of_transformers_summed_by_utterance(backbone: CTCBackbone, frames: Frames) -> None:
    targets = backbone.targets(TEXTS, LANGUAGES)
    loss = backbone.token_loss(frames, targets)
    waveforms_BL, num_samples_B = waveforms()
    assert loss.num_tokens_B.tolist() == [len(text) for text in TEXTS]
    assert loss.sum_B.dtype == torch.float32
    backbone.model.config.ctc_loss_reduction = "sum"
    for row, length in enumerate(num_samples_B.tolist()):
        features = backbone.features(waveforms_BL[row : row + 1, :length], num_samples_B[row : row + 1])
        labels_BS = targets.labels_BS[row : row + 1]
        with torch.no_grad():
            expected = backbone.model(features.values_BMT[:, 0], labels=labels_BS).loss
        torch.testing.assert_close(loss.sum_B[row], expected, atol=1e-3, rtol=1e-4)


def test_a_transcript_longer_than_its_frames_is_counted_and_trains_nothing(
    backbone: CTCBackbone, frames: Frames
) -> None:
    few = Frames(frames.values_BTD.clone().requires_grad_(), torch.tensor([3, 3, 11]))
    before = backbone.num_impossible
    with pytest.warns(UserWarning, match="fewer frames than its transcript has labels"):
        loss = backbone.token_loss(few, backbone.targets(["one", "too", "hello there"], LANGUAGES))
    assert backbone.num_impossible == before + 2  # "too" needs a blank between its o's, "hello there" between its l's
    assert loss.sum_B[0] > 0
    assert loss.sum_B[1:].tolist() == [0, 0]
    loss.sum_B.sum().backward()
    assert few.values_BTD.grad is not None
    assert few.values_BTD.grad.isfinite().all()
    assert few.values_BTD.grad[0].abs().sum() > 0
    assert few.values_BTD.grad[1:].abs().sum() == 0


def test_greedy_text_is_the_likeliest_path_by_transformers_tokenizer(backbone: CTCBackbone, frames: Frames) -> None:
    assert backbone.tokens is not None
    found = backbone.decode(frames, LANGUAGES)
    log_probs_BTV, num_frames_B = backbone.frame_log_probs(frames)
    for row, num_frames in enumerate(num_frames_B.tolist()):
        best_T = log_probs_BTV[row, :num_frames].argmax(dim=-1)
        expected = backbone.tokens.tokenizer.decode(best_T)
        for special in ("<s>", "</s>", "<unk>"):
            expected = expected.replace(special, "")
        assert found.texts[row] == " ".join(expected.split()) != ""
        expected_score = log_probs_BTV[row, :num_frames].max(dim=-1).values.mean()
        torch.testing.assert_close(found.scores_B[row], expected_score)


def test_experts_side_by_side_are_averaged_by_their_frames_probabilities(backbone: CTCBackbone, frames: Frames) -> None:
    weights_BK = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    pairs = Frames(frames.values_BTD[[0, 1, 2, 0]], torch.tensor([40, 40, 45, 45]))
    targets = backbone.targets(TEXTS[:2], LANGUAGES[:2])
    loss, text = backbone.token_loss(pairs, targets, weights_BK), backbone.decode(pairs, LANGUAGES[:2], weights_BK)
    probs_NTV = backbone.model.lm_head(pairs.values_BTD).softmax(dim=-1).detach()
    for row, num_frames in enumerate((40, 45)):
        rows_KTV = probs_NTV[2 * row : 2 * row + 2, :num_frames]
        mean_TV = (weights_BK[row][:, None, None] * rows_KTV).sum(dim=0)
        expected = torch.nn.functional.ctc_loss(
            mean_TV.log(), targets.labels_BS[row, : len(TEXTS[row])], (num_frames,), (len(TEXTS[row]),), reduction="sum"
        )
        torch.testing.assert_close(loss.sum_B[row], expected, atol=1e-4, rtol=1e-5)
        path = best_path(mean_TV.log(), 0)
        assert backbone.tokens is not None
        assert text.texts[row] == backbone.tokens.text(path.labels)
        assert text.scores_B[row] == pytest.approx(path.log_prob / num_frames, abs=1e-4)


def test_a_gradient_reaches_the_weights_of_experts_side_by_side(backbone: CTCBackbone, frames: Frames) -> None:
    weights_BK = torch.tensor([[0.5, 0.5]], requires_grad=True)
    values = Frames(frames.values_BTD[:2].clone().requires_grad_(), torch.tensor([40, 40]))
    backbone.token_loss(values, backbone.targets(["one"], [None]), weights_BK).sum_B.sum().backward()
    assert weights_BK.grad is not None
    assert (weights_BK.grad != 0).all()
    assert values.values_BTD.grad is not None
    assert (values.values_BTD.grad[:, :40].abs().sum(dim=(1, 2)) > 0).all()


def every_labelling(log_probs_TV: Tensor, blank: int) -> dict[tuple[int, ...], float]:
    """Probability of every labelling, over all V^T paths."""
    found: dict[tuple[int, ...], float] = {}
    num_frames, num_tokens = log_probs_TV.shape
    for path in itertools.product(range(num_tokens), repeat=num_frames):
        collapsed = tuple(token for token, _ in itertools.groupby(path) if token != blank)
        log_prob = sum(float(log_probs_TV[frame, token]) for frame, token in enumerate(path))
        found[collapsed] = found.get(collapsed, 0.0) + math.exp(log_prob)
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_beam_finds_the_likeliest_labels_over_all_paths(seed: int, blank: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs_TV = torch.randn(5, 4, generator=generator, dtype=torch.float64).mul(2).log_softmax(dim=-1)
    every = every_labelling(log_probs_TV, blank)
    found = beam_search(log_probs_TV, blank, num_beams=1000)
    assert every[tuple(found.labels)] == pytest.approx(max(every.values()))
    assert math.exp(found.log_prob) == pytest.approx(max(every.values()))


def test_the_likeliest_labels_are_not_always_those_of_the_likeliest_path() -> None:
    log_probs_TV = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # blank blank 0.36; a in any of three paths 0.64
    assert best_path(log_probs_TV, blank=0).labels == []
    found = beam_search(log_probs_TV, blank=0, num_beams=2)
    assert found.labels == [1]
    assert math.exp(found.log_prob) == pytest.approx(0.64)


def test_beam_search_scores_no_worse_than_the_likeliest_path(backbone: CTCBackbone, frames: Frames) -> None:
    greedy, searched = (
        backbone.decode(frames, LANGUAGES),
        backbone.decode(frames, LANGUAGES, options=DecodeOptions(num_beams=4)),
    )
    assert (searched.scores_B >= greedy.scores_B).all()
    assert (searched.scores_B <= 0).all()
    assert searched.texts != greedy.texts


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert"])
def test_an_encoder_without_a_head_embeds_and_says_that_it_cannot_recognise(kind: str, tmp_path: Path) -> None:
    backbone = load_backbone(str(write_ctc(tmp_path, kind, has_head=False))).eval()
    assert isinstance(backbone, CTCBackbone)
    frames = encode(backbone, *waveforms((8_000,)))
    assert frames.values_BTD.isfinite().all()
    labels = load_backbone(str(write_ctc(tmp_path / "whole", kind))).targets(["one"], [None])
    for call in (
        lambda: backbone.targets(["one"], [None]),
        lambda: backbone.token_loss(frames, labels),
        lambda: backbone.decode(frames, [None]),
    ):
        with refuses("model.unfit"):
            call()


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    write_ctc(tmp_path)
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "A": 40}')
    with refuses("model.unfit", 40):
        load_backbone(str(tmp_path))
