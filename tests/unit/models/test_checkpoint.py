"""What peft makes of the saved folders: the same frames, text, loss and gradients."""

import json
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
from tests.unit.models.test_lora import LANGUAGES, TEXTS, speech, with_deltas

CONFIGS = {
    "plain": ExpertConfig(5, rank=4, alpha=6.0, dropout=0.0),
    "shared": ExpertConfig(5, rank=4, alpha=6.0, dropout=0.0, shared_rank=3),
    "rank-stabilised": ExpertConfig(5, rank=4, alpha=3.0, dropout=0.0, shared_rank=5, rslora=True),
    "by regular expression": ExpertConfig(
        5, rank=4, alpha=6.0, dropout=0.0, target_modules=(r".*decoder.*\.fc[12]", "out_proj")
    ),
    "upper layers": ExpertConfig(5, rank=4, alpha=6.0, dropout=0.0, adapt_from_layer=1, shared_rank=2),
}
ONE_HOT_GATES = {expert: torch.eye(5)[[expert] * 3] for expert in range(5)}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def experts(request: pytest.FixtureRequest, tiny_whisper: Path) -> SpeechExperts:
    return with_deltas(tiny_whisper, request.param)


def by_peft(experts: SpeechExperts, expert: int, whisper: Path, folder: Path) -> WhisperBackbone:
    """A plain model in which peft itself has loaded the folder of one expert."""
    save_adapter(experts, expert, str(whisper), folder)
    backbone = WhisperBackbone.load(str(whisper)).eval()
    backbone.model = PeftModel.from_pretrained(backbone.model, folder, is_trainable=True).base_model.model
    return backbone


def mean_loss(backbone: WhisperBackbone) -> Tensor:
    frames = backbone.encode(backbone.features(*speech()))
    loss = backbone.token_loss(frames, backbone.targets(TEXTS, LANGUAGES))
    return loss.sum_B.sum() / loss.num_tokens_B.sum()


def test_peft_decodes_as_the_one_hot_gate_does(experts: SpeechExperts, tiny_whisper: Path, tmp_path: Path) -> None:
    backbone = by_peft(experts, 3, tiny_whisper, tmp_path)
    with torch.no_grad():
        expected = backbone.encode(backbone.features(*speech()))
        found = experts.encode(*speech(), ONE_HOT_GATES[3])
        assert (
            backbone.decode(expected, LANGUAGES).texts
            == experts.transcribe(*speech(), LANGUAGES, ONE_HOT_GATES[3]).texts
        )
    torch.testing.assert_close(found.values_BTD, expected.values_BTD, atol=1e-5, rtol=1e-4)


def test_loss_and_gradients_are_those_of_peft(experts: SpeechExperts, tiny_whisper: Path, tmp_path: Path) -> None:
    backbone = by_peft(experts, 1, tiny_whisper, tmp_path)
    expected = mean_loss(backbone)
    expected.backward()
    experts.zero_grad()
    found = experts.loss(*speech(), TEXTS, LANGUAGES, ONE_HOT_GATES[1])
    found.backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    config, theirs = experts.config, dict(backbone.model.named_parameters())
    for name, layer in experts.layers.items():
        for stacked_RD, part in ((layer.down_RD, "lora_A"), (layer.up_RD, "lora_B")):
            gradient_RD = stacked_RD.grad
            assert gradient_RD is not None
            own_RD = torch.cat([gradient_RD[config.rows_of(1)], gradient_RD[config.shared_rows]])
            peft_gradient = theirs[f"{name}.{part}.default.weight"].grad
            assert peft_gradient is not None
            torch.testing.assert_close(
                own_RD, peft_gradient if part == "lora_A" else peft_gradient.T, atol=1e-5, rtol=1e-3
            )
            assert not gradient_RD[config.rows_of(0)].any()


def test_a_few_kept_experts_equal_all_of_them_with_zero_gates(experts: SpeechExperts) -> None:
    """Rows gathered for each utterance against the two products over all rows; gradients too."""
    gate_BE = torch.tensor([[0.7, 0.0, 0.3, 0, 0], [0, 0, 0, 0, 1.0], [0, 0.4, 0, 0.6, 0]])
    nearly_BE = gate_BE.clamp_min(1e-12)  # no gate is zero, so none is left out
    mix, full = mix_of(gate_BE, experts.config), mix_of(nearly_BE, experts.config)
    assert mix.kept_BK is not None
    assert full.kept_BK is None
    results = []
    for gates in (gate_BE, nearly_BE):
        experts.zero_grad()
        loss = experts.loss(*speech(), TEXTS, LANGUAGES, gates)
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in experts.expert_parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_no_op_expert_is_the_bare_backbone_and_its_folder_says_so(tiny_whisper: Path, tmp_path: Path) -> None:
    config = ExpertConfig(3, rank=4, dropout=0.0, noop_expert=True)
    experts = with_deltas(tiny_whisper, config)
    assert all(len(parameter) == 2 * 4 for parameter in experts.expert_parameters())
    backbone = by_peft(experts, 2, tiny_whisper, tmp_path)
    with torch.no_grad():
        bare = experts.backbone.encode(experts.backbone.features(*speech())).values_BTD
        found = experts.encode(*speech(), torch.eye(3)[[2, 2, 2]]).values_BTD
        torch.testing.assert_close(found, bare, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(backbone.encode(backbone.features(*speech())).values_BTD, bare, atol=1e-5, rtol=1e-4)
        mixed = experts.encode(*speech(), torch.eye(3)[[2, 1, 2]]).values_BTD
    torch.testing.assert_close(mixed[::2], bare[::2], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed[1], bare[1], atol=1e-3)


def test_short_names_are_saved_where_they_name_the_same_layers(tiny_whisper: Path, tmp_path: Path) -> None:
    saved = {}
    for name in ("plain", "upper layers"):
        save_adapter(with_deltas(tiny_whisper, CONFIGS[name]), 0, str(tiny_whisper), tmp_path / name)
        saved[name] = json.loads((tmp_path / name / "adapter_config.json").read_text())["target_modules"]
    assert sorted(saved["plain"]) == ["q_proj", "v_proj"]
    assert all(".layers." in name for name in saved["upper layers"])


def test_mixtures_side_by_side_equal_one_pass_each(experts: SpeechExperts) -> None:
    first, second = ONE_HOT_GATES[0], torch.full((3, 5), 0.2)
    both = torch.stack([first, second], dim=1).flatten(0, 1)
    with torch.no_grad():
        together = experts.encode(*speech(), both).values_BTD
        for place, gate_BE in enumerate((first, second)):
            alone = experts.encode(*speech(), gate_BE).values_BTD
            torch.testing.assert_close(together[place::2], alone, atol=1e-5, rtol=1e-4)
