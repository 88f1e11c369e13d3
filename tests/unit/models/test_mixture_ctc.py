"""A gate that listens to a CTC model's encoder, of every kind."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.ctc import CTCBackbone
from moe_lightning.models.backbones.pooling import layer_frames, pool
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.mixture_config import MixtureConfig
from tests.ctc_models import KINDS, write_ctc


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ctc(tmp_path_factory.mktemp("ctc") / request.param, request.param)


def made_mixture(model: Path, gate: str) -> MixtureASR:
    """Two experts that differ, in the last of two layers; the gate reads what lies below."""
    torch.manual_seed(0)
    experts = ExpertConfig(2, rank=2, dropout=0.0, adapt_from_layer=1)
    live = {"gate_input": "live", "gate_layers": "0,1", "gate": gate, "routing": "merge"}
    mixture = MixtureASR(MixtureConfig(str(model), 32, experts, hidden_dim=8, **live)).eval()  # type: ignore[arg-type]
    for parameter in mixture.experts.expert_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixture


def some_batch() -> SpeechBatch:
    num_samples_B = torch.tensor([9000, 16000, 12345])
    waveforms_BL = torch.randn(3, 16000, generator=torch.Generator().manual_seed(0))
    waveforms_BL = 0.1 * waveforms_BL * (torch.arange(16000) < num_samples_B[:, None])
    texts = ["A", "BC", "DEF"]
    return SpeechBatch(
        texts, waveforms_BL, num_samples_B, texts, [None] * 3, torch.full((3, 2), 0.5), torch.zeros(3, 32)
    )


@pytest.mark.parametrize("gate", ["mlp", "attentive"])
def test_one_pass_serves_gate_and_experts_and_gives_what_two_give(model: Path, gate: str) -> None:
    mixture, batch = made_mixture(model, gate), some_batch()
    backbone = mixture.experts.backbone
    assert isinstance(backbone, CTCBackbone)
    frames = layer_frames(backbone, backbone.features(batch.waveforms_BL, batch.num_samples_B), (0, 1))
    counts: Counter[int] = Counter()
    for number, layer in enumerate(backbone.encoder.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: counts.update([number]))
    readable, base = mixture.read(batch)
    routing = mixture.route(mixture.gate(readable))
    loss = mixture.loss(batch, routing, base)
    assert counts == {0: 1, 1: 1}
    if isinstance(readable, Frames):
        torch.testing.assert_close(readable.values_BTD[readable.is_real_BT], frames.values_BTD[frames.is_real_BT])
    else:
        torch.testing.assert_close(readable, pool(frames, "mean"), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss.sum_B, mixture.loss(batch, routing).sum_B, atol=1e-4, rtol=1e-4)
    loss.sum_B.sum().backward()
    for parameter in (*mixture.experts.expert_parameters(), mixture.gate.head.output.weight):
        assert parameter.grad is not None
        assert parameter.grad.any()
