"""The backbone against transformers, which is the obvious and slow way."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from moe_lightning.data.utterance import Utterance
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.log_mel import log_mel
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.training.transcripts import check_texts
from tests.refusals import refuses

LENGTHS = (16_000, 40_123, 30_001)


def waveforms(lengths: tuple[int, ...] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    waveforms_BL = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        waveforms_BL[row, :length] = 0.1 * torch.randn(length, generator=generator)
    return waveforms_BL, torch.tensor(lengths)


@pytest.fixture(scope="module")
def backbone(tiny_whisper: Path) -> WhisperBackbone:
    return WhisperBackbone.load(str(tiny_whisper)).eval()


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_the_log_mel_equals_the_feature_extractors_on_real_frames(num_mel_bins: int) -> None:
    waveforms_BL, num_samples_B = waveforms()
    extractor = WhisperFeatureExtractor(feature_size=num_mel_bins)
    rows = [waveforms_BL[row, :length].numpy() for row, length in enumerate(LENGTHS)]
    expected_BMT = extractor(rows, sampling_rate=16_000, return_tensors="pt").input_features
    found = log_mel(waveforms_BL, num_samples_B, num_mel_bins)
    for row, num_frames in enumerate(found.num_frames_B.tolist()):
        torch.testing.assert_close(
            found.values_BMT[row, :, :num_frames], expected_BMT[row, :, :num_frames], atol=1e-4, rtol=0
        )


def test_the_encoder_at_30_s_is_bit_identical_to_transformers(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper), window="30").eval()
    waveforms_BL, num_samples_B = waveforms()
    spectrograms = backbone.features(waveforms_BL, num_samples_B)
    with torch.no_grad():
        expected_BTD = backbone.model.model.encoder(spectrograms.values_BMT).last_hidden_state
        assert torch.equal(backbone.encode(spectrograms).values_BTD, expected_BTD)


def test_frames_do_not_depend_on_what_else_is_in_the_batch(backbone: WhisperBackbone) -> None:
    waveforms_BL, num_samples_B = waveforms()
    with torch.no_grad():
        together = backbone.encode(backbone.features(waveforms_BL, num_samples_B))
        for row, length in enumerate(LENGTHS):
            alone = backbone.encode(
                backbone.features(waveforms_BL[row : row + 1, :length], num_samples_B[row : row + 1])
            )
            num_frames = int(together.num_frames_B[row])
            assert num_frames == -(-length // 320) == alone.values_BTD.shape[1]
            torch.testing.assert_close(together.values_BTD[row, :num_frames], alone.values_BTD[0], atol=1e-4, rtol=0)


def test_loss_and_transcript_do_not_depend_on_what_else_is_in_the_batch(backbone: WhisperBackbone) -> None:
    waveforms_BL, num_samples_B = waveforms()
    texts, languages = ["one", "deux mots", "three short words"], ["en", "fr", "de"]
    with torch.no_grad():
        frames = backbone.encode(backbone.features(waveforms_BL, num_samples_B))
        loss = backbone.token_loss(frames, backbone.targets(texts, languages))
        transcripts = backbone.decode(frames, languages).texts
        for row, length in enumerate(LENGTHS):
            alone = backbone.encode(
                backbone.features(waveforms_BL[row : row + 1, :length], num_samples_B[row : row + 1])
            )
            alone_loss = backbone.token_loss(alone, backbone.targets([texts[row]], [languages[row]]))
            torch.testing.assert_close(loss.sum_B[row], alone_loss.sum_B[0], atol=1e-3, rtol=1e-4)
            assert transcripts[row].startswith(backbone.decode(alone, [languages[row]]).texts[0][:10])


def test_greedy_decoding_equals_generate_of_transformers(tiny_whisper: Path) -> None:
    backbone = WhisperBackbone.load(str(tiny_whisper), window="30").eval()
    waveforms_BL, num_samples_B = waveforms()
    spectrograms = backbone.features(waveforms_BL, num_samples_B)
    prompt = backbone.tokens.prompt("fr")
    expected_BS = WhisperForConditionalGeneration.generate(
        backbone.model,
        spectrograms.values_BMT,
        decoder_input_ids=torch.tensor([prompt] * 3),
        max_new_tokens=20,
        do_sample=False,
        return_timestamps=False,
    )
    expected = [backbone.tokens.text(row) for row in expected_BS.tolist()]
    options = DecodeOptions(max_tokens=20)
    assert backbone.decode(backbone.encode(spectrograms), ["fr"] * 3, options=options).texts == expected


def test_experts_side_by_side_are_averaged_by_their_probabilities(backbone: WhisperBackbone) -> None:
    targets = backbone.targets(["one", "deux mots"], ["en", "fr"])
    weights_BK = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    with torch.no_grad():
        frames = backbone.encode(backbone.features(*waveforms((16_000, 16_000, 16_000, 16_000))))
        loss = backbone.token_loss(frames, targets, weights_BK)
        for row in range(2):
            alone = Frames(frames.values_BTD[2 * row : 2 * row + 2], frames.num_frames_B[:2])
            inputs_2S = targets.inputs_BS[row].expand(2, -1)
            probs_2SV = backbone._logits(alone, inputs_2S).softmax(dim=-1)
            mean_SV = (weights_BK[row][:, None, None] * probs_2SV).sum(dim=0)
            labels_S = targets.labels_BS[row]
            chosen_S = mean_SV.gather(1, labels_S.clamp(min=0)[:, None])[:, 0]
            expected = -chosen_S.log()[labels_S >= 0].sum()
            torch.testing.assert_close(loss.sum_B[row], expected, atol=1e-4, rtol=1e-5)


def test_a_model_beside_itself_decodes_as_it_does_alone(backbone: WhisperBackbone) -> None:
    with torch.no_grad():
        frames = backbone.encode(backbone.features(*waveforms()))
        twice = Frames(frames.values_BTD.repeat_interleave(2, dim=0), frames.num_frames_B.repeat_interleave(2))
        alone = backbone.decode(frames, ["en"] * 3, options=DecodeOptions(max_tokens=20))
        found = backbone.decode(twice, ["en"] * 3, torch.full((3, 2), 0.5), options=DecodeOptions(max_tokens=20))
    assert found.texts == alone.texts
    torch.testing.assert_close(found.scores_B, alone.scores_B)
    assert (alone.scores_B < 0).all()


def test_training_reads_the_prompt_that_decoding_forces_and_learns_the_end_of_text(backbone: WhisperBackbone) -> None:
    tokenizer = backbone.tokens.tokenizer
    tokenizer.set_prefix_tokens(language="fr", task="transcribe", predict_timestamps=False)
    expected = tokenizer(" deux mots")["input_ids"]  # prompt, text, end of text
    targets = backbone.targets(["deux mots"], ["fr"])
    assert targets.inputs_BS[0].tolist() == expected[:-1]
    num_forced = len(tokenizer.prefix_tokens) - 1
    assert targets.labels_BS[0].tolist() == [-100] * num_forced + expected[num_forced + 1 :]
    assert targets.labels_BS[0, -1] == backbone.tokens.end


def test_a_transcript_that_the_decoder_cannot_hold_is_refused(backbone: WhisperBackbone) -> None:
    with refuses("transcript.too-long", 501):
        backbone.targets(["x" * 500], ["en"])


def test_an_utterance_over_30_s_is_refused(backbone: WhisperBackbone) -> None:
    with refuses("audio.too-long", 496000):
        backbone.features(torch.zeros(1, 31 * 16_000), torch.tensor([31 * 16_000]))


def test_a_model_that_cannot_be_loaded_is_named_with_the_ways_to_name_one(tmp_path: Path) -> None:
    with refuses("model.unknown", "no_such"):
        WhisperBackbone.load(str(tmp_path / "no_such"))


def test_silence_gives_finite_frames(backbone: WhisperBackbone) -> None:
    frames = backbone.encode(backbone.features(torch.zeros(1, 8_000), torch.tensor([8_000])))
    assert np.isfinite(frames.values_BTD.detach().numpy()).all()


@pytest.fixture(scope="module")
def forbidding(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> WhisperBackbone:
    """A model whose decoding forbids quotation marks, brackets and colons, as Whisper's does."""
    folder = Path(shutil.copytree(tiny_whisper, tmp_path_factory.mktemp("forbidding") / "model"))
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    config = json.loads((folder / "generation_config.json").read_text())
    tokens = tokenizer('"():', add_special_tokens=False)["input_ids"]
    (folder / "generation_config.json").write_text(json.dumps({**config, "suppress_tokens": tokens}))
    return WhisperBackbone.load(str(folder)).eval()


@pytest.mark.parametrize(
    ("text", "kept", "left_out"),
    [
        ('he said "hello" (laughs)', "he said hello laughs", '"()'),
        ("at 5:30", "at 5 30", ":"),
        ("don't, well-known", "don't, well-known", ""),
        ('"été"', "été", '"'),
    ],
)
def test_what_decoding_forbids_is_left_out_of_the_labels(
    text: str, kept: str, left_out: str, forbidding: WhisperBackbone, backbone: WhisperBackbone
) -> None:
    (labels_S,) = forbidding.targets([text], ["en"]).labels_BS
    assert forbidding.tokens.text([token for token in labels_S.tolist() if token >= 0]) == kept
    assert torch.equal(labels_S, forbidding.targets([kept], ["en"]).labels_BS[0])
    assert forbidding.left_out_of(text) == left_out
    assert backbone.left_out_of(text) == "", "it forbids nothing"


def test_a_training_is_told_how_many_transcripts_hold_forbidden_characters(
    forbidding: WhisperBackbone, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = [Utterance(str(number), Path("a.wav"), 0.0, 1.0, text, "s", {"language": "en"}) for number, text in
                  enumerate(['a "b"', "plain", "(c)"])]  # fmt: skip
    check_texts(forbidding, utterances)
    assert capsys.readouterr().err.startswith("2 of 3 transcripts hold characters")


@pytest.mark.parametrize("token", ["<|startoftranscript|>", "<|endoftext|>", "<|0.00|>", "<|fr|>"])
def test_a_transcript_with_a_control_token_is_refused_by_its_name(token: str, backbone: WhisperBackbone) -> None:
    for act in (lambda text: backbone.check_text(text, "en"), lambda text: backbone.targets([text], ["en"])):
        with refuses("transcript.control-token", token):
            act(f"good {token} morning")
    backbone.check_text("a <b> | c < d |> e", "en")
