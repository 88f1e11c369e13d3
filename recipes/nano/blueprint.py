"""The untrained nano backbone: its shape, its tokenizer, and the layout of its folder.

The folder equals one of the hub's Whisper folders in every respect, so any loader of
``openai/whisper-large-v2`` loads it too.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

LANGUAGES = ("en", "zh", "de", "es", "ru", "ko", "fr")
"""Whisper's first languages in Whisper's order; its tokenizer computes their ids from that order."""
END = "<|endoftext|>"
SPECIAL_TOKENS = (
    END,
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
"""In Whisper's order, after the text tokens."""


def make_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> WhisperTokenizer:
    """Byte-level BPE trained on texts; it encodes any text, since every byte is a token.

    Args:
        vocab_size: Text tokens; the special tokens follow them.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [(left, right) for left, right in learned["merges"]]
    tokenizer = WhisperTokenizer(vocab=learned["vocab"], merges=merges, pad_token=END)
    tokenizer.add_special_tokens({"extra_special_tokens": list(SPECIAL_TOKENS[1:])})
    return tokenizer


def make_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """An untrained Whisper of 2.4 M parameters."""
    ids = tokenizer.get_vocab()
    end = ids[END]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=144,
        encoder_layers=5,
        encoder_attention_heads=4,
        encoder_ffn_dim=576,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=576,
        init_std=0.05,  # Whisper's 0.02 is made for 1280 dimensions and learns slowly at 144
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        begin_suppress_tokens=[ids["Ġ"], end],
    )
    config.trained_window = "real"  # read by `window: auto`
    model = WhisperForConditionalGeneration(config)
    model.generation_config = _generation_config(tokenizer)
    return model


def save(model: WhisperForConditionalGeneration, tokenizer: WhisperTokenizer, folder: Path) -> None:
    """Write the folder: config, weights (float16, read back as float32), tokenizer, feature extractor."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)


def _generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Settings for `generate`: Whisper's special tokens, and those suppressed in text."""
    ids = tokenizer.get_vocab()
    end = ids[END]
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        no_timestamps_token_id=ids["<|notimestamps|>"],
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"]},  # the only one it detects: it was trained on English
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        suppress_tokens=[ids[token] for token in SPECIAL_TOKENS if token != END],
        begin_suppress_tokens=[ids["Ġ"], end],
        return_timestamps=False,
        max_length=448,
    )
