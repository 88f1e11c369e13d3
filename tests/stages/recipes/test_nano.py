import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from moe_lightning.corpus.demo.grammar import random_sentence, vocabulary
from moe_lightning.corpus.demo.populations import POPULATIONS, SPLIT_VARIANTS
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.names import NANO_DIR
from moe_lightning.models.backbones.whisper import WhisperBackbone
from recipes.nano import blueprint, speech
from recipes.nano.train import Plan, main, new_backbone, train, word_error_rate

NOT_INSTALLED = "the training speech is spoken by espeak-ng, extra `demo`"


@pytest.fixture(scope="module")
def processor() -> WhisperProcessor:
    return WhisperProcessor.from_pretrained(NANO_DIR)


def test_the_shipped_model_is_small():
    model = WhisperForConditionalGeneration.from_pretrained(NANO_DIR)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) <= 4_000_000
    assert sum(file.stat().st_size for file in NANO_DIR.glob("*.safetensors")) <= 8_000_000


@pytest.mark.parametrize(
    "text", [" the red boat", " où est la forêt, s'il vous plaît", " straßenbähn 東京 🙂", " a\tb"]
)
def test_any_text_can_be_written_and_read_back(processor: WhisperProcessor, text: str):
    tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_the_common_words_of_the_grammar_are_one_token(processor: WhisperProcessor):
    words = vocabulary()
    lengths = [len(processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) for word in words]
    assert sum(length == 1 for length in lengths) > 0.5 * len(words)


def test_the_special_tokens_are_whispers(processor: WhisperProcessor):
    tokenizer = processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer)))[-len(blueprint.SPECIAL_TOKENS) :] == list(
        blueprint.SPECIAL_TOKENS
    )
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    tokenizer.set_prefix_tokens(language="fr", task="transcribe")
    prompt = tokenizer.convert_ids_to_tokens(tokenizer("bonjour")["input_ids"])[:4]
    assert prompt == ["<|startoftranscript|>", "<|fr|>", "<|transcribe|>", "<|notimestamps|>"]


def test_training_shares_no_voice_and_no_accent_with_the_demo_corpus_but_american():
    assert not set(speech.VARIANTS) & {variant for variants in SPLIT_VARIANTS.values() for variant in variants}
    assert set(speech.ACCENTS) & {population.accent for population in POPULATIONS} == {"en-us"}


def test_plain_speech_of_unseen_voices_is_understood():
    pytest.importorskip("espeakng_loader", reason=NOT_INSTALLED)
    plain = speech.speak(speech.plain_utterances(40, seed=7))
    assert word_error_rate(WhisperBackbone.load("nano"), plain) < 0.1


def test_transformers_own_generate_hears_the_same_words(processor: WhisperProcessor):
    pytest.importorskip("espeakng_loader", reason=NOT_INSTALLED)
    waveforms = [torch.from_numpy(speech.waveform(utterance)) for utterance in speech.plain_utterances(3, seed=9)]
    features = processor([w.numpy() for w in waveforms], sampling_rate=16_000, return_tensors="pt").input_features
    model = WhisperForConditionalGeneration.from_pretrained(NANO_DIR)
    tokens = model.generate(features, language="en", task="transcribe", max_new_tokens=20)
    heard = [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    backbone = WhisperBackbone.load("nano", window="30").eval()
    num_samples_B = torch.tensor([len(w) for w in waveforms])
    spectrograms = backbone.features(torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), num_samples_B)
    options = DecodeOptions(max_tokens=20)
    assert backbone.decode(backbone.encode(spectrograms), ["en"] * 3, options=options).texts == heard


def test_a_few_steps_of_training_lower_the_loss():
    pytest.importorskip("espeakng_loader", reason=NOT_INSTALLED)
    torch.manual_seed(0)
    tiny = speech.speak(speech.training_utterances(32, seed=1))
    losses = train(new_backbone(seed=1), tiny, Plan(30, 5, batch_size=8, learning_rate=1e-3), seed=1)
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_documented_command_saves_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("espeakng_loader", reason=NOT_INSTALLED)
    monkeypatch.setenv("MOE_LIGHTNING_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-m", "recipes.nano.train", "--output-dir", str(tmp_path / "nano")]
    few = ["--steps", "2", "--num-utterances", "16", "--num-judged", "2", "--batch-size", "4"]
    subprocess.run([*command, *few], check=True)
    backbone = WhisperBackbone.load(str(tmp_path / "nano"))
    text = random_sentence(random.Random(0))
    assert backbone.tokens.text(backbone.targets([text], ["en"]).inputs_BS[0].tolist()) == text


def test_training_for_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["train", "--output-dir", "nowhere", "--minutes", "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: --minutes must be above 0, got 0.0 [setting.range]\n"
