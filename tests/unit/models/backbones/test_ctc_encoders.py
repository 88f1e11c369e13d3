"""The encoders of CTC models against transformers, one utterance at a time, which is the obvious and slow way."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.ctc import CTCBackbone
from moe_lightning.models.backbones.fbank import fbank
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.wav2vec2 import Wav2Vec2Backbone, standardised
from tests.ctc_models import KINDS, write_ctc
from tests.refusals import refuses

LENGTHS = (16_000, 30_123, 24_001)


def waveforms(lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    waveforms_BL = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        loudness_L = torch.linspace(0.02, 0.3, length)  # what an utterance's normalisation is taken over matters
        waveforms_BL[row, :length] = 0.1 + loudness_L * torch.randn(length, generator=generator)
    return waveforms_BL, torch.tensor(lengths)


@pytest.fixture(scope="module", params=KINDS)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CTCBackbone:
    backbone = load_backbone(str(write_ctc(tmp_path_factory.mktemp("ctc"), request.param))).eval()
    assert isinstance(backbone, CTCBackbone)
    return backbone


def encode(backbone: CTCBackbone, waveforms_BL: Tensor, num_samples_B: Tensor) -> Frames:
    with torch.no_grad():
        return backbone.encode(backbone.features(waveforms_BL, num_samples_B))


def by_transformers(backbone: CTCBackbone, waveforms_BL: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Tensor]:
    """Frames and logits of one utterance by the model as transformers loads, feeds and runs it."""
    model = type(backbone.model).from_pretrained(backbone.model.config.name_or_path).eval()
    if isinstance(backbone, Wav2Vec2Backbone):
        values = backbone.extractor(waveforms_BL[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    else:  # a filter bank's logarithm magnifies rounding; it has a test of its own
        values = backbone.features(waveforms_BL, num_samples_B).values_BMT.transpose(1, 2)
    with torch.no_grad():
        return model.base_model(values).last_hidden_state, model(values).logits


def test_the_frames_of_one_utterance_are_those_of_transformers(backbone: CTCBackbone) -> None:
    waveforms_BL, num_samples_B = waveforms((30_000,))
    found = encode(backbone, waveforms_BL, num_samples_B)
    expected_BTD, logits_BTV = by_transformers(backbone, waveforms_BL, num_samples_B)
    assert found.values_BTD.shape[1] == int(found.num_frames_B[0])
    assert found.values_BTD.shape[2] == backbone.embedding_dim
    torch.testing.assert_close(found.values_BTD, expected_BTD, atol=1e-5, rtol=0)
    log_probs_BTV, _ = backbone.frame_log_probs(found)
    torch.testing.assert_close(log_probs_BTV, logits_BTV.log_softmax(-1), atol=1e-5, rtol=0)


def test_frames_do_not_depend_on_what_else_is_in_the_batch(backbone: CTCBackbone) -> None:
    waveforms_BL, num_samples_B = waveforms()
    together = encode(backbone, waveforms_BL, num_samples_B)
    for row, length in enumerate(LENGTHS):
        alone = encode(backbone, waveforms_BL[row : row + 1, :length], num_samples_B[row : row + 1])
        num_frames = int(together.num_frames_B[row])
        assert num_frames == alone.values_BTD.shape[1] == int(alone.num_frames_B[0])
        torch.testing.assert_close(together.values_BTD[row, :num_frames], alone.values_BTD[0], atol=1e-4, rtol=0)


def test_layers_run_in_two_parts_give_what_they_give_in_one(backbone: CTCBackbone) -> None:
    features = backbone.features(*waveforms())
    with torch.no_grad():
        stem = backbone.stem(features)
        whole = backbone.run_layers(stem)
        parts = backbone.run_layers(backbone.run_layers(stem, 0, 1), 1)
        first = backbone.encode(features, num_layers=1)
        assert backbone.num_layers == 2
        torch.testing.assert_close(parts.values_BTD, whole.values_BTD, atol=1e-6, rtol=0)
        torch.testing.assert_close(first.values_BTD, backbone.run_layers(stem, 0, 1).values_BTD, atol=0, rtol=0)


def test_a_layer_in_the_middle_is_that_of_transformers(backbone: CTCBackbone) -> None:
    waveforms_BL, num_samples_B = waveforms((20_000,))
    model = type(backbone.model).from_pretrained(backbone.model.config.name_or_path).eval()
    features = backbone.features(waveforms_BL, num_samples_B)
    values = features.values_BMT[:, 0] if features.values_BMT.shape[1] == 1 else features.values_BMT.transpose(1, 2)
    with torch.no_grad():
        expected_BTD = model.base_model(values, output_hidden_states=True).hidden_states[1]
        found_BTD = backbone.encode(features, num_layers=1).values_BTD
    torch.testing.assert_close(found_BTD, expected_BTD, atol=1e-5, rtol=0)


def test_no_layer_is_dropped_in_training(backbone: CTCBackbone) -> None:
    counts: list[int] = []
    layers = backbone.encoder.encoder.layers
    handles = [layer.register_forward_hook(lambda *_: counts.append(1)) for layer in layers]
    backbone.train()
    features = backbone.features(*waveforms((8_000,)))
    for _ in range(10):
        assert backbone.encode(features).values_BTD.isfinite().all()
    backbone.eval()
    for handle in handles:
        handle.remove()
    assert len(counts) == 10 * backbone.num_layers


def test_an_utterance_of_a_few_samples_and_one_of_silence_have_finite_frames(backbone: CTCBackbone) -> None:
    waveforms_BL, _ = waveforms((10, 8_000))
    found = encode(backbone, torch.cat([waveforms_BL, torch.zeros(1, 8_000)]), torch.tensor([10, 8_000, 8_000]))
    assert found.values_BTD.isfinite().all()
    assert int(found.num_frames_B[0]) == 1


def test_the_classical_window_is_refused(backbone: CTCBackbone) -> None:
    with refuses("setting.conflict", "window=30.0"):
        backbone.features(*waveforms((8_000,)), 30.0)
    with refuses("setting.conflict", "window=30.0"):
        load_backbone(backbone.model.config.name_or_path, window="30")


def test_waveforms_are_normalised_as_the_feature_extractor_does_it() -> None:
    waveforms_BL, num_samples_B = waveforms()
    found_BL = standardised(waveforms_BL, num_samples_B)
    rows = [waveforms_BL[row, :length].numpy() for row, length in enumerate(LENGTHS)]
    expected = Wav2Vec2FeatureExtractor(return_attention_mask=True)(
        rows, sampling_rate=16_000, padding=True, return_tensors="pt"
    )
    torch.testing.assert_close(found_BL, expected.input_values, atol=1e-5, rtol=0)


def test_the_filter_banks_equal_the_feature_extractors() -> None:
    waveforms_BL, num_samples_B = waveforms()
    waveforms_BL[1, 5_000:9_000] = 0.0  # where the floor of the logarithm counts
    extractor = SeamlessM4TFeatureExtractor()
    found = fbank(waveforms_BL, num_samples_B, extractor)
    rows = [waveforms_BL[row, :length].numpy() for row, length in enumerate(LENGTHS)]
    expected = extractor(rows, sampling_rate=16_000, return_tensors="pt")
    assert found.num_frames_B.tolist() == expected.attention_mask.sum(dim=1).tolist()
    for row, num_frames in enumerate(found.num_frames_B.tolist()):
        expected_MT = expected.input_features[row, :num_frames].T
        torch.testing.assert_close(found.values_BMT[row, :, :num_frames], expected_MT, atol=1e-4, rtol=0)


def test_a_model_that_is_no_recogniser_of_speech_is_named_with_the_kinds_that_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with refuses("model.unfit", "bert"):
        load_backbone(str(tmp_path))


def test_a_folder_without_its_feature_extractor_is_named_in_one_line(tmp_path: Path) -> None:
    folder = write_ctc(tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with refuses("model.unknown", "model") as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)
