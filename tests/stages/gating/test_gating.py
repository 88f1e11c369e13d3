"""The gate: what it learns, what it is fed, what it leaves behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F

from moe_lightning.gating.data import GatingDataModule
from moe_lightning.models.gate import Gate
from moe_lightning.models.routing import normalised_entropy, soft_label_divergence
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs
from tests.stage_runs import fit


@pytest.fixture(scope="module")
def gated_run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose gate is trained for thirty epochs, quickly."""
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path_factory.mktemp("gated") / "run")))
    options = ["--trainer.max_epochs", "30", "--data.batch_size", "8", "--model.optimizer.init_args.lr", "0.003"]
    fit("gating", run.path, tiny_whisper, *options)
    return run


def divergence_on_train(run: RunDir, gate: Gate, tiny_whisper: Path) -> float:
    inputs = RunInputs.load(run, str(tiny_whisper))
    ids = [entry.id for entry in inputs.store.entries if entry.split == "train"]
    with torch.no_grad():
        logits_BE = gate(torch.from_numpy(inputs.store.of(ids)))
    return float(soft_label_divergence(logits_BE, torch.from_numpy(inputs.soft_labels.of(ids))))


def saved_gate(run: RunDir) -> Gate:
    state = torch.load(run.gate_file, weights_only=True)
    gate = Gate(state["mean_D"].shape[0], state["output.bias"].shape[0], state["hidden.bias"].shape[0])
    gate.load_state_dict(state)
    return gate


def test_training_brings_the_gate_to_the_soft_labels(gated_run: RunDir, tiny_whisper: Path) -> None:
    trained = saved_gate(gated_run)
    untrained = Gate(len(trained.mean_D), 2)
    untrained.mean_D.copy_(trained.mean_D)
    untrained.std_D.copy_(trained.std_D)
    before, after = (divergence_on_train(gated_run, gate, tiny_whisper) for gate in (untrained, trained))
    assert after < 0.2 * before


def test_the_saved_gate_has_the_guides_shape_and_says_what_it_was_trained_with(
    gated_run: RunDir, tiny_whisper: Path
) -> None:
    gate = saved_gate(gated_run)
    assert gate.hidden.weight.shape == (512, 32)
    assert gate.output.weight.shape == (2, 512)
    config = json.loads(gated_run.gate_config_file.read_text())
    assert gated_run.gate_config_file.name == "gating_pretrain_config.json"
    assert (config["num_experts"], config["embedding_dim"], config["hidden_dim"]) == (2, 32, 512)
    assert config["whisper_model"] == str(tiny_whisper)
    assert {"train/loss", "val/loss", "val/accuracy", "val/entropy"} <= set(config["metrics"])


def test_the_saved_gate_is_the_best_epochs(gated_run: RunDir) -> None:
    best = torch.load(gated_run.checkpoint_dir("gating") / "best.ckpt", weights_only=True)["state_dict"]
    saved = torch.load(gated_run.gate_file, weights_only=True)
    assert all(torch.equal(saved[name], best[f"gate.{name}"]) for name in saved)


def test_the_saved_gate_standardises_by_the_training_embeddings(gated_run: RunDir, tiny_whisper: Path) -> None:
    store = RunInputs.load(gated_run, str(tiny_whisper)).store
    train_ND = store.embeddings_ND[store.splits_N == "train"].astype(np.float64)
    gate = saved_gate(gated_run)
    np.testing.assert_allclose(gate.mean_D.numpy(), train_ND.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(gate.std_D.numpy(), train_ND.std(axis=0), rtol=1e-3, atol=1e-5)


def test_it_trains_and_validates_on_the_splits_of_those_names(clustered_run: Path, tiny_whisper: Path) -> None:
    data = GatingDataModule(str(clustered_run), str(tiny_whisper), batch_size=5)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    sizes = [
        [len(batch.embeddings_BD) for batch in loader] for loader in (data.train_dataloader(), data.val_dataloader())
    ]
    assert [sum(one) for one in sizes] == [24, 6]
    assert (data.num_experts, data.embedding_dim) == (2, 32)


def test_a_constant_dimension_changes_nothing_and_breaks_nothing() -> None:
    embeddings_ND = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    embeddings_ND[:, 1] = 7.0
    gate = Gate(4, 3)
    gate.standardise(embeddings_ND)
    assert gate.std_D[1] == 1
    logits_BE = gate(embeddings_ND)
    assert logits_BE.isfinite().all()
    torch.testing.assert_close(gate.mean_D[1], torch.tensor(7.0))


def test_the_gate_does_not_see_the_scale_or_the_offset_of_a_dimension() -> None:
    embeddings_ND = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    gate = Gate(4, 3)
    gate.standardise(embeddings_ND)
    expected = gate(embeddings_ND)
    moved_ND = embeddings_ND * torch.tensor([1000.0, 1.0, 0.01, 5.0]) + torch.tensor([0.0, 300.0, 0.0, -2.0])
    gate.standardise(moved_ND)
    torch.testing.assert_close(gate(moved_ND), expected, atol=1e-3, rtol=1e-3)


def test_the_gate_is_float32_under_autocast() -> None:
    gate = Gate(16, 3)
    embeddings_BD = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    expected = gate(embeddings_BD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gate(embeddings_BD)
        assert soft_label_divergence(found, expected.softmax(dim=1)).dtype == torch.float32
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert gate(embeddings_BD.bfloat16()).dtype == torch.float32


def test_the_divergence_is_the_mean_kl_in_nats_and_zero_for_the_label_itself() -> None:
    labels_BE = torch.tensor([[0.7, 0.3], [0.0, 1.0]])
    logits_BE = torch.tensor([[0.2, -0.4], [1.0, 1.0]])
    probs = logits_BE.softmax(dim=1).tolist()
    by_hand = (0.7 * np.log(0.7 / probs[0][0]) + 0.3 * np.log(0.3 / probs[0][1]) + np.log(1 / probs[1][1])) / 2
    assert float(soft_label_divergence(logits_BE, labels_BE)) == pytest.approx(by_hand, rel=1e-5)
    own_BE = F.softmax(logits_BE, dim=1)
    assert float(soft_label_divergence(logits_BE, own_BE)) == pytest.approx(0, abs=1e-6)


def test_entropy_is_0_for_one_expert_and_1_for_all_alike() -> None:
    probs_BE = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(normalised_entropy(probs_BE), torch.tensor([0.0, 1.0, 0.5]))
    assert normalised_entropy(torch.ones(2, 1)).tolist() == [0.0, 0.0]
