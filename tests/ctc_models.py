"""CTC models of random weights that the tests make for themselves, as hub folders look."""

import json
from pathlib import Path
from typing import Any

KINDS = (
    "wav2vec2",
    "wav2vec2-stable",
    "wav2vec2-adapter",
    "hubert",
    "hubert-stable",
    "hubert-batch-norm",
    "wavlm",
    "wavlm-stable",
    "wav2vec2-bert",
    "wav2vec2-bert-adapter",
)
"""A model type, and what is special about it; ``stable`` normalises before the layers and in every convolution."""
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"


def write_ctc(folder: Path, kind: str = "wav2vec2", has_head: bool = True) -> Path:
    """Write model, feature extractor and tokenizer of 2 layers of 32; without a head, an encoder alone."""
    import torch
    from transformers import AutoConfig, SeamlessM4TFeatureExtractor, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    from moe_lightning.models.backbones.pretrained import CTC_CLASSES

    model_type = next(name for name in sorted(CTC_CLASSES, key=len, reverse=True) if kind.startswith(name))
    special = kind.removeprefix(model_type).strip("-")
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *CHARACTERS]
    config = AutoConfig.for_model(model_type, **_settings(special), vocab_size=len(tokens))
    torch.manual_seed(0)
    model = CTC_CLASSES[model_type][0 if has_head else 1](config)
    if special == "batch-norm":
        norm = model.base_model.encoder.pos_conv_embed.batch_norm
        norm.running_mean.normal_()
        norm.bias.data.normal_()
    model.save_pretrained(folder)
    is_bert = model_type == "wav2vec2-bert"
    (SeamlessM4TFeatureExtractor if is_bert else Wav2Vec2FeatureExtractor)().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    return folder


def _settings(special: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "initializer_range": 0.2,  # large enough that frames, and what stands beside them, matter
        "output_hidden_size": 32,
        "pad_token_id": 0,
    }
    if special == "stable":
        settings |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
    if special == "adapter":
        settings |= {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}
        settings |= {"use_intermediate_ffn_before_adapter": True}
    if special == "batch-norm":
        settings |= {"conv_pos_batch_norm": True}
    return settings
