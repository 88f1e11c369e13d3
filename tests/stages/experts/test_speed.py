"""Faster and smaller ways to the same losses and gradients."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts, compile_layers
from moe_lightning.run.folder import RunDir
from tests.stage_runs import fit
from tests.unit.models.test_lora import LANGUAGES, TEXTS, speech, with_deltas

CONFIG = ExpertConfig(4, rank=2, alpha=3.0, dropout=0.1, shared_rank=3)
SOFT_GATES = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.2, 0.2, 0.3, 0.3]])
ONE_HOT_GATES = torch.eye(4)[[2, 0, 2]]


def loss_and_gradients(experts: SpeechExperts, gate_BE: Tensor) -> list[Tensor]:
    """Of a training pass: loss, gradient of the gates, gradients of all deltas."""
    torch.manual_seed(0)
    experts.train().zero_grad()
    gate_BE = gate_BE.clone().requires_grad_()
    loss = experts.loss(*speech(), TEXTS, LANGUAGES, gate_BE)
    loss.backward()
    assert gate_BE.grad is not None
    gradients = [parameter.grad for parameter in experts.expert_parameters() if parameter.grad is not None]
    assert len(gradients) == 2 * len(experts.layers)
    return [loss.detach(), gate_BE.grad, *gradients]


@pytest.fixture(scope="module")
def plain(tiny_whisper: Path) -> SpeechExperts:
    return with_deltas(tiny_whisper, CONFIG)


@pytest.mark.parametrize("gate_BE", [SOFT_GATES, ONE_HOT_GATES], ids=["soft", "one-hot"])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(
    plain: SpeechExperts, tiny_whisper: Path, gate_BE: Tensor
) -> None:
    """Gates, masks and dropout of the pass have to be those of the layers' second run."""
    thrifty = with_deltas(tiny_whisper, CONFIG)
    thrifty.speed_up(gradient_checkpointing=True)
    expected, found = loss_and_gradients(plain, gate_BE), loss_and_gradients(thrifty, gate_BE)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-5)


def test_gradient_checkpointing_runs_every_layer_a_second_time(tiny_whisper: Path) -> None:
    thrifty = with_deltas(tiny_whisper, CONFIG)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    thrifty.layers["model.decoder.layers.1.self_attn.v_proj"].register_forward_hook(count)
    thrifty.speed_up(gradient_checkpointing=True)
    loss_and_gradients(thrifty, SOFT_GATES)
    assert calls == 2


def test_compiled_layers_follow_the_gates_of_each_batch(tiny_whisper: Path) -> None:
    """Traced as for any backend; only the writing of kernels, a minute on a small CPU, is left out."""
    config = ExpertConfig(4, rank=2, alpha=3.0, dropout=0.0, shared_rank=3)
    plain, compiled = with_deltas(tiny_whisper, config), with_deltas(tiny_whisper, config)
    compile_layers(compiled.backbone.model, "eager")
    for gate_BE in (SOFT_GATES, SOFT_GATES.flip(0)):
        expected, found = loss_and_gradients(plain, gate_BE), loss_and_gradients(compiled, gate_BE)
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
    assert compiled.eval().transcribe(*speech(), LANGUAGES, SOFT_GATES).texts == (
        plain.eval().transcribe(*speech(), LANGUAGES, SOFT_GATES).texts
    )


def test_both_stages_train_the_same_with_gradient_checkpointing(
    pretrained_run: Path, clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """The option of the commands reaches the layers, and a run may be made with or without it."""
    for stage, start in (("experts", clustered_run), ("moe", pretrained_run)):
        weights = []
        for value in ("false", "true"):
            run = RunDir(Path(shutil.copytree(start, tmp_path / stage / value)))
            options = ["--trainer.max_epochs", "1"]
            fit(stage, run.path, tiny_whisper, *options, "--model.gradient_checkpointing", value)
            weights.append(load_file(run.pretrained_experts_file if stage == "experts" else run.mixture_file))
        for name, expected in weights[0].items():
            torch.testing.assert_close(weights[1][name], expected, atol=1e-5, rtol=1e-4)
