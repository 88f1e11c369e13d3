"""Which linear layers get experts, in every kind of speech model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    HubertConfig,
    HubertForCTC,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMForCTC,
)

from moe_lightning.models.backbones.base import PassState
from moe_lightning.models.backbones.pretrained import load_whisper
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.lora import find_targets, install_experts, mix_of
from tests.refusals import refuses

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 9}
CONVOLUTIONS = {
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def ctc_model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "w2v-BERT":
        config = Wav2Vec2BertConfig(**SIZES, feature_projection_input_dim=16, conv_depthwise_kernel_size=3)
        return Wav2Vec2BertForCTC(config).eval()
    config_class, model_class = {
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForCTC),
        "HuBERT": (HubertConfig, HubertForCTC),
        "WavLM": (WavLMConfig, WavLMForCTC),
    }[kind]
    return model_class(config_class(**SIZES, **CONVOLUTIONS)).eval()


def inputs_of(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask_BL = torch.ones(2, 40 if kind == "w2v-BERT" else 2000, dtype=torch.int64)
    mask_BL[1, mask_BL.shape[1] // 2 :] = 0
    if kind == "w2v-BERT":
        return {"input_features": torch.randn(2, 40, 16, generator=generator), "attention_mask": mask_BL}
    return {"input_values": torch.randn(2, 2000, generator=generator) * mask_BL, "attention_mask": mask_BL}


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("wav2vec2", ("q_proj", "v_proj", "intermediate_dense")),
        ("HuBERT", ("out_proj", "output_dense")),
        ("WavLM", ("q_proj", "v_proj")),
        ("WavLM", ("k_proj", "out_proj", "intermediate_dense")),
        ("w2v-BERT", ("q_proj", "v_proj")),
        ("w2v-BERT", ("linear_q", "linear_v", r".*ffn1\.intermediate_dense")),
    ],
)
def test_experts_in_a_ctc_model_equal_its_merged_weights(kind: str, targets: tuple[str, ...]) -> None:
    plain, gated, merged = (ctc_model(kind) for _ in range(3))
    config, state = ExpertConfig(3, rank=2, dropout=0.0, target_modules=targets), PassState()
    layers = install_experts(gated, config, state)
    gates: Any = [[0.0, 1.0, 0.0], [0.5, 0.2, 0.3]]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        torch.testing.assert_close(
            gated(**inputs_of(kind)).logits, plain(**inputs_of(kind)).logits, atol=1e-5, rtol=1e-4
        )
        for layer in layers.values():
            layer.up_RD.normal_(0, 0.2, generator=generator)
        with state.holding(mix=mix_of(torch.tensor(gates), config)):
            found = gated(**inputs_of(kind)).logits
        for utterance, gate in enumerate(gates):
            ranks_R = mix_of(torch.tensor([gate]), config).ranks_BR[0]
            for name, layer in layers.items():
                weight = merged.get_submodule(name).weight
                weight.copy_(layer.base.weight + ((layer.down_RD.T * ranks_R) @ layer.up_RD).T)
            expected = merged(**inputs_of(kind)).logits
            torch.testing.assert_close(found[utterance], expected[utterance], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(found, plain(**inputs_of(kind)).logits, atol=1e-3)


def test_a_model_that_reads_a_weight_past_its_layer_is_refused() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    config, state = ExpertConfig(2, rank=2, target_modules=("out_proj",)), PassState()
    install_experts(model, config, state)
    mix = mix_of(torch.eye(2), config)
    with refuses("model.unfit", "target_modules"), state.holding(mix=mix):
        model(torch.randn(2, 5, 16))


def test_names_and_regular_expressions_find_layers(tiny_whisper: Path) -> None:
    model, _ = load_whisper(str(tiny_whisper))
    assert len(find_targets(model, ["q_proj"])) == 2 + 4
    assert len(find_targets(model, ["fc1", "fc2"])) == 8
    assert set(find_targets(model, [r"model\.encoder\.layers\.1\..*\.(q|v)_proj"])) == {
        f"model.encoder.layers.1.self_attn.{name}_proj" for name in "qv"
    }


def test_lower_layers_stay_the_base_and_the_decoder_has_experts(tiny_whisper: Path) -> None:
    model, _ = load_whisper(str(tiny_whisper))
    names = set(find_targets(model, ["q_proj"]))
    assert names - set(find_targets(model, ["q_proj"], adapt_from_layer=1)) == {
        "model.encoder.layers.0.self_attn.q_proj"
    }
    assert all("decoder" in name for name in find_targets(model, ["q_proj"], adapt_from_layer=2))
    assert not any("feature_projection" in name for name in find_targets(ctc_model("HuBERT"), [".*proj.*"], 1))


@pytest.mark.parametrize(
    ("targets", "adapt_from_layer", "refusal"),
    [
        (["query"], 0, ("setting.choice", "query")),
        (["q_proj", "fc3"], 0, ("setting.choice", "fc3")),
        (["(q_proj"], 0, ("setting.syntax", "(q_proj")),
        (["q_proj"], 3, ("setting.range", "adapt_from_layer=3")),
        ([r".*encoder\.layers.*fc1"], 2, ("setting.conflict", "adapt_from_layer=2")),
    ],
)
def test_a_target_that_is_not_there_is_refused(
    targets: list[str], adapt_from_layer: int, refusal: tuple[str, ...], tiny_whisper: Path
) -> None:
    model, _ = load_whisper(str(tiny_whisper))
    with refuses(*refusal):
        find_targets(model, targets, adapt_from_layer)
