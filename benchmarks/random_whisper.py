"""Whisper's architecture with random weights: the same work as a trained model of its shape."""

from transformers import GenerationConfig, PreTrainedTokenizerBase, WhisperConfig, WhisperForConditionalGeneration

from moe_lightning.models.backbones.names import NANO_DIR

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"width": 32, "layers": 2, "heads": 2},
    "base": {"width": 512, "layers": 6, "heads": 8},
    "large-v2": {"width": 1280, "layers": 32, "heads": 20},
}


def random_whisper(
    shape: str, tokenizer: PreTrainedTokenizerBase, vocab_size: int = 51_865, decoder_layers: int | None = None
) -> WhisperForConditionalGeneration:
    """A model of a shape, with the weights of Whisper's initialisation and the generation config of nano.

    Args:
        tokenizer: Nano's; it gives the ids of the special tokens.
        vocab_size: Whisper's by default.
        decoder_layers: As many as in the encoder by default.
    """
    vocab = tokenizer.get_vocab()
    start, end = vocab["<|startoftranscript|>"], vocab["<|endoftext|>"]
    width, layers, heads = SHAPES[shape].values()
    config = WhisperConfig(
        vocab_size=vocab_size,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=decoder_layers or layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig.from_pretrained(NANO_DIR)
    return model
