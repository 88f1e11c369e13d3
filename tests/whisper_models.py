"""A Whisper model that takes no download."""

from pathlib import Path

TASK_TOKENS = [
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]


def write_whisper(folder: Path, trained_window: str | float | None = "real") -> Path:
    """Write a model of random weights as a hub folder looks: 2 + 2 layers of 32.

    Args:
        trained_window: As the config says; None leaves it out, as in a Whisper from the hub.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    vocab = {symbol: index for index, symbol in enumerate(bytes_to_unicode().values())}
    special_tokens = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), *TASK_TOKENS]
    vocab |= {token: len(vocab) + index for index, token in enumerate(special_tokens)}
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[], additional_special_tokens=special_tokens[1:])
    start, end = vocab["<|startoftranscript|>"], vocab["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(vocab),
        num_mel_bins=80,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    if trained_window is not None:
        config.trained_window = trained_window
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": vocab[f"<|{code}|>"] for code in LANGUAGES},
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder
