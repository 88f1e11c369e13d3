"""All experts in one pass, against one peft adapter after another."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.models.checkpoint import save_adapter
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.lora import mix_of
from tests.refusals import refuses

NUM_EXPERTS = 3
TEXTS, LANGUAGES = ["one two", "trois mots ici", "x"], ["en", "fr", "de"]


def speech() -> tuple[Tensor, Tensor]:
    waveforms_BL = 0.1 * torch.randn(3, 24_000, generator=torch.Generator().manual_seed(0))
    num_samples_B = torch.tensor([24_000, 16_000, 20_001])
    waveforms_BL[torch.arange(24_000) >= num_samples_B[:, None]] = 0
    return waveforms_BL, num_samples_B


def trained_experts(folder: Path, shared_rank: int) -> SpeechExperts:
    """Experts whose deltas are not zero, as after training."""
    return with_deltas(folder, ExpertConfig(NUM_EXPERTS, rank=4, alpha=6.0, dropout=0.0, shared_rank=shared_rank))


def with_deltas(folder: Path, config: ExpertConfig) -> SpeechExperts:
    """Experts of any size whose deltas are not zero."""
    experts = SpeechExperts(WhisperBackbone.load(str(folder)), config).eval()
    generator = torch.Generator().manual_seed(1)
    for layer in experts.layers.values():
        layer.down_RD.data.normal_(0, 0.1, generator=generator)
        layer.up_RD.data.normal_(0, 0.3, generator=generator)
    return experts


@pytest.fixture(scope="module", params=[0, 5], ids=["without a shared expert", "with a shared expert"])
def experts(request: pytest.FixtureRequest, tiny_whisper: Path) -> SpeechExperts:
    return trained_experts(tiny_whisper, request.param)


def frames(experts: SpeechExperts, gate_BE: Tensor) -> Tensor:
    with torch.no_grad():
        return experts.encode(*speech(), gate_BE).values_BTD


def test_a_one_hot_gate_equals_the_experts_own_peft_adapter(
    experts: SpeechExperts, tiny_whisper: Path, tmp_path: Path
) -> None:
    waveforms_BL, num_samples_B = speech()
    for expert in range(NUM_EXPERTS):
        save_adapter(experts, expert, str(tiny_whisper), tmp_path / f"expert_{expert}")
        plain = WhisperBackbone.load(str(tiny_whisper)).eval()
        PeftModel.from_pretrained(plain.model, tmp_path / f"expert_{expert}")
        one_hot_BE = torch.eye(NUM_EXPERTS)[[expert] * 3]
        with torch.no_grad():
            expected = plain.encode(plain.features(waveforms_BL, num_samples_B))
            assert plain.decode(expected, LANGUAGES).texts == experts.transcribe(*speech(), LANGUAGES, one_hot_BE).texts
        torch.testing.assert_close(frames(experts, one_hot_BE), expected.values_BTD, atol=1e-5, rtol=1e-4)


def test_a_soft_gate_equals_the_merged_weights(experts: SpeechExperts, tiny_whisper: Path) -> None:
    gate_E = torch.tensor([0.5, 0.2, 0.3])
    merged = WhisperBackbone.load(str(tiny_whisper)).eval()
    ranks_R = mix_of(gate_E[None], experts.config).ranks_BR[0]
    for name, layer in experts.layers.items():
        delta = (layer.down_RD.T * ranks_R) @ layer.up_RD
        merged.model.get_submodule(name).weight.data += delta.T.detach()
    with torch.no_grad():
        expected = merged.encode(merged.features(*speech())).values_BTD
    torch.testing.assert_close(frames(experts, gate_E.repeat(3, 1)), expected, atol=1e-5, rtol=1e-4)


def test_the_order_and_the_size_of_a_batch_do_not_matter(experts: SpeechExperts) -> None:
    gate_BE = torch.eye(NUM_EXPERTS)
    waveforms_BL, num_samples_B = speech()
    together = frames(experts, gate_BE)
    order = [2, 0, 1]
    with torch.no_grad():
        shuffled = experts.encode(waveforms_BL[order], num_samples_B[order], gate_BE[order]).values_BTD
        alone = experts.encode(waveforms_BL[:1], num_samples_B[:1], gate_BE[:1]).values_BTD
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone[0], together[0], atol=1e-5, rtol=1e-4)


def test_the_gradients_equal_those_of_the_merged_weights(experts: SpeechExperts) -> None:
    """D loss / d up of expert k is its gate times the gradient that a lone adapter would get."""
    gate_BE = torch.tensor([[0.7, 0.3, 0.0]] * 3)
    experts.zero_grad()
    experts.loss(*speech(), TEXTS, LANGUAGES, gate_BE).backward()
    layer = experts.layers["model.encoder.layers.0.self_attn.v_proj"]
    gradient_RD = layer.up_RD.grad
    assert gradient_RD is not None
    assert gradient_RD[experts.config.rows_of(0)].abs().max() > 0
    assert torch.equal(gradient_RD[experts.config.rows_of(2)], torch.zeros(4, 32))  # zero, but there: DDP needs it
    step = 1e-3
    original = layer.up_RD.data.clone()
    direction = torch.randn(original.shape, generator=torch.Generator().manual_seed(2))
    losses = []
    for sign in (1, -1):
        layer.up_RD.data = original + sign * step * direction
        with torch.no_grad():
            losses.append(float(experts.loss(*speech(), TEXTS, LANGUAGES, gate_BE)))
    layer.up_RD.data = original
    torch.testing.assert_close(
        (gradient_RD * direction).sum().item(), (losses[0] - losses[1]) / (2 * step), rtol=0.05, atol=1e-3
    )


def test_without_gates_the_model_is_the_bare_backbone(experts: SpeechExperts, tiny_whisper: Path) -> None:
    plain = WhisperBackbone.load(str(tiny_whisper)).eval()
    with torch.no_grad():
        expected = plain.encode(plain.features(*speech())).values_BTD
        found = experts.backbone.encode(experts.backbone.features(*speech())).values_BTD
    assert torch.equal(found, expected)


def test_only_the_experts_are_trained(experts: SpeechExperts) -> None:
    trained = {id(parameter) for parameter in experts.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in experts.expert_parameters()}


def test_experts_of_another_size_are_refused(experts: SpeechExperts, tiny_whisper: Path) -> None:
    other = SpeechExperts(WhisperBackbone.load(str(tiny_whisper)), ExpertConfig(NUM_EXPERTS, rank=8))
    with refuses("experts.unfit", "model.encoder.layers.0.self_attn.v_proj.down_RD"):
        other.load_expert_state(experts.expert_state())


@pytest.mark.parametrize(
    "numbers", [{"num_experts": 0}, {"num_experts": 2, "rank": 0}, {"num_experts": 2, "dropout": 1}]
)
def test_impossible_sizes_are_refused(numbers: dict) -> None:
    with refuses("setting.range"):
        ExpertConfig(**numbers)
