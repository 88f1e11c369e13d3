"""What the gate of a mixture hears: the passes through the encoder, training, and decoding of new audio."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.pooling import layer_frames, pool
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.models.mixture_config import MixtureConfig
from moe_lightning.run.folder import RunDir
from tests.stage_runs import fit

LIVE = ["--model.gate", "attentive", "--model.gate_input", "live"]
BELOW = ["--model.gate_layers", "0,1"]
QUICK = ["--trainer.max_epochs", "1", "--data.batch_size", "8"]


def made_mixture(tiny_whisper: Path, adapt_from_layer: int, **settings: object) -> MixtureASR:
    """A mixture of two experts that differ, over the tiny model."""
    torch.manual_seed(0)
    experts = ExpertConfig(2, rank=2, dropout=0.0, adapt_from_layer=adapt_from_layer)
    config = MixtureConfig(str(tiny_whisper), 32, experts, hidden_dim=8, **settings)  # type: ignore[arg-type]
    mixture = MixtureASR(config).eval()
    for parameter in mixture.experts.expert_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixture


def some_batch() -> SpeechBatch:
    generator = torch.Generator().manual_seed(0)
    num_samples_B = torch.tensor([9000, 16000, 12345])
    waveforms_BL = torch.randn(3, 16000, generator=generator) * (torch.arange(16000) < num_samples_B[:, None])
    labels_BE = torch.full((3, 2), 0.5)
    texts = ["a", "bc", "def"]
    return SpeechBatch(texts, waveforms_BL, num_samples_B, texts, ["en"] * 3, labels_BE, torch.zeros(3, 32))


def passes(mixture: MixtureASR, work: Callable[[], object]) -> dict[int, int]:
    """How often each encoder layer is run by some work."""
    counts: Counter[int] = Counter()
    layers = mixture.experts.backbone.model.model.encoder.layers
    hooks = [
        layer.register_forward_pre_hook(lambda *_, number=number: counts.update([number]))
        for number, layer in enumerate(layers)
    ]
    work()
    for hook in hooks:
        hook.remove()
    return {number: counts[number] for number in range(len(layers))}


def training_work(mixture: MixtureASR) -> Callable[[], object]:
    def work() -> None:
        readable, base = mixture.read(some_batch())
        mixture.loss(some_batch(), mixture.route(mixture.gate(readable)), base).sum_B.sum().backward()

    return work


def decoding_work(mixture: MixtureASR) -> Callable[[], object]:
    batch = some_batch()
    return lambda: mixture.hypotheses(batch.waveforms_BL, batch.num_samples_B, batch.languages)


@pytest.mark.parametrize("gate", ["mlp", "attentive"])
@pytest.mark.parametrize("routing", ["top_k", "posterior", "loss"])
def test_one_pass_serves_gate_and_experts_where_the_gate_reads_below_them(
    tiny_whisper: Path, gate: str, routing: str
) -> None:
    settings = {"gate": gate, "gate_input": "live", "gate_layers": "0,1", "routing": routing, "top_k": 2}
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1, **settings)
    assert passes(mixture, training_work(mixture)) == {0: 1, 1: 1}
    assert passes(mixture, decoding_work(mixture)) == {0: 1, 1: 1}


def test_a_gate_that_reads_above_the_experts_takes_a_pass_of_its_own(tiny_whisper: Path) -> None:
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1, gate_input="live", gate_layers="last")
    assert passes(mixture, training_work(mixture)) == {0: 2, 1: 2}


def test_a_cached_gate_takes_no_pass_in_training_and_one_for_new_audio(tiny_whisper: Path) -> None:
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1)
    assert passes(mixture, training_work(mixture)) == {0: 1, 1: 1}
    assert passes(mixture, decoding_work(mixture)) == {0: 2, 1: 2}


def test_the_losses_of_all_experts_take_the_layers_below_them_once(tiny_whisper: Path) -> None:
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1)
    assert passes(mixture, lambda: mixture.experts.losses_alone(some_batch(), max_rows=3)) == {0: 1, 1: 2}


@pytest.mark.parametrize("gate", ["mlp", "attentive"])
def test_one_pass_gives_what_two_give(tiny_whisper: Path, gate: str) -> None:
    settings = {"gate": gate, "gate_input": "live", "gate_layers": "0,1"}
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1, **settings)
    batch = some_batch()
    readable, base = mixture.read(batch)
    assert base is not None
    layers = mixture.config.gate_config.layer_numbers(2)
    features = mixture.experts.backbone.features(batch.waveforms_BL, batch.num_samples_B)
    frames = layer_frames(mixture.experts.backbone, features, layers)
    if isinstance(readable, Frames):
        torch.testing.assert_close(readable.values_BTD, frames.values_BTD)
    else:
        torch.testing.assert_close(readable, pool(frames, "mean"))
    routing = mixture.route(mixture.gate(readable))
    torch.testing.assert_close(mixture.loss(batch, routing, base).sum_B, mixture.loss(batch, routing).sum_B)


def test_the_gate_hears_the_base_and_never_the_experts(tiny_whisper: Path) -> None:
    mixture = made_mixture(tiny_whisper, adapt_from_layer=0, gate="attentive", gate_input="live", gate_layers="1,last")
    before = mixture.read(some_batch()).readable
    for parameter in mixture.experts.expert_parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    after = mixture.read(some_batch()).readable
    assert isinstance(before, Frames)
    assert isinstance(after, Frames)
    assert torch.equal(before.values_BTD, after.values_BTD)


def test_cross_entropy_reaches_all_of_an_attentive_gate(tiny_whisper: Path) -> None:
    settings = {"gate": "attentive", "gate_input": "live", "gate_layers": "0,1", "routing": "merge"}
    mixture = made_mixture(tiny_whisper, adapt_from_layer=1, **settings)
    torch.nn.init.normal_(mixture.gate.frame_score.weight)
    training_work(mixture)()
    for name, parameter in mixture.gate.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.fixture(scope="module")
def live_run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """All stages with an attentive gate on the live encoder, below experts in the last layer, and a refinement."""
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path_factory.mktemp("live") / "tiny")))
    fit("gating", run.path, tiny_whisper, *QUICK, *LIVE, *BELOW)
    experts = ["--model.adapt_from_layer", "1"]
    fit("experts", run.path, tiny_whisper, *QUICK, *experts)
    fit("moe", run.path, tiny_whisper, *QUICK, "--model.refinement.num_rounds", "1")
    return run


def test_the_joint_stage_trains_a_live_attentive_gate_and_its_config_says_so(live_run: RunDir) -> None:
    config = json.loads(live_run.mixture_config_file.read_text())
    assert (config["gate"], config["gate_input"], config["gate_layers"]) == ("attentive", "live", "0,1")
    before, after = torch.load(live_run.gate_file, weights_only=True), load_file(live_run.mixture_file)
    for name in ("layer_logits", "frame_score.weight", "head.output.weight"):
        assert not torch.equal(before[name], after[f"gate.{name}"]), name
    assert live_run.refined_soft_labels_file(1).exists()


def test_the_joint_stage_takes_cached_frames_and_decodes_new_audio_without_them(
    frames_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(frames_run, tmp_path / "run")))
    attentive = ["--model.gate", "attentive"]
    fit("gating", run.path, tiny_whisper, *QUICK, *attentive)
    fit("experts", run.path, tiny_whisper, *QUICK)
    accumulated = ["--trainer.accumulate_grad_batches", "3"]
    fit("moe", run.path, tiny_whisper, *QUICK, *accumulated, "--model.refinement.num_rounds", "1")
    before, after = torch.load(run.gate_file, weights_only=True), load_file(run.mixture_file)
    assert not torch.equal(before["layer_logits"], after["gate.layer_logits"])
    batch = some_batch()
    assert (
        len(
            MixtureASR.load(run.mixture_files)
            .hypotheses(batch.waveforms_BL, batch.num_samples_B, batch.languages)
            .texts
        )
        == 3
    )


def test_a_loaded_mixture_hears_new_audio_as_the_trained_one(live_run: RunDir, tiny_whisper: Path) -> None:
    mixture = MixtureASR.load(live_run.mixture_files)
    batch = some_batch()
    embeddings_BD = mixture.gate.pool(mixture.read_audio(batch.waveforms_BL, batch.num_samples_B).readable)
    assert embeddings_BD.shape == (3, 64)
    logits_BE = mixture.gate.head(embeddings_BD)
    found = mixture.hypotheses(batch.waveforms_BL, batch.num_samples_B, batch.languages, logits_BE)
    assert found.texts == mixture.hypotheses(batch.waveforms_BL, batch.num_samples_B, batch.languages).texts
    torch.testing.assert_close(
        mixture.gates(logits_BE).sum(dim=1), torch.ones(3), msg="the routing of new audio is a distribution"
    )
