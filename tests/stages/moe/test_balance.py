"""The balance loss is the written formula over all utterances of an optimizer step."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.models.gate import Gate
from moe_lightning.models.routing import balance_loss
from moe_lightning.run.folder import RunDir
from tests.ranks import balance_of_a_part, weights_and_inputs
from tests.refusals import fit_arguments
from tests.robustness.test_multi_process import TWO_PROCESSES, run_command
from tests.stage_runs import callback, fit


def written_formula(logits_BE: np.ndarray) -> float:
    """E * sum_e f_e * P_e, one utterance and one expert at a time."""
    num_utterances, num_experts = logits_BE.shape
    total = 0.0
    for expert in range(num_experts):
        share = sum(int(row.argmax()) == expert for row in logits_BE) / num_utterances
        mean_prob = sum(np.exp(row[expert]) / np.exp(row).sum() for row in logits_BE) / num_utterances
        total += share * mean_prob
    return num_experts * total


def test_it_is_the_written_formula() -> None:
    logits_BE = torch.randn(11, 4, generator=torch.Generator().manual_seed(0))
    assert float(balance_loss(logits_BE)) == pytest.approx(written_formula(logits_BE.double().numpy()), rel=1e-5)


def test_it_is_1_when_all_experts_share_and_the_number_of_experts_when_one_takes_all() -> None:
    assert float(balance_loss(20 * torch.eye(4))) == pytest.approx(1.0, abs=1e-4)
    collapsed_BE = torch.zeros(6, 4)
    collapsed_BE[:, 2] = 50
    assert float(balance_loss(collapsed_BE)) == pytest.approx(4.0, abs=1e-4)


def test_its_gradient_lowers_the_expert_that_has_too_much() -> None:
    logits_BE = torch.tensor([[2.0, 0.0, 0.0]] * 5, requires_grad=True)
    balance_loss(logits_BE).backward()
    assert logits_BE.grad is not None
    assert (logits_BE.grad[:, 0] > 0).all()
    assert (logits_BE.grad[:, 1:] < 0).all()


def test_it_is_float32_whatever_the_logits_are() -> None:
    assert balance_loss(torch.randn(4, 3).half()).dtype == torch.float32


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5)], ids=str)
def test_over_two_processes_the_mean_gradient_is_that_of_the_whole_batch(
    sizes: tuple[int, int], tmp_path: Path
) -> None:
    multiprocessing.spawn(balance_of_a_part, args=(2, sizes, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    averaged = torch.load(tmp_path / "averaged.pt", weights_only=True)
    weights_ED, inputs_BD = weights_and_inputs()
    weights_ED.requires_grad_()
    expected = balance_loss(inputs_BD @ weights_ED.T)
    expected.backward()
    torch.testing.assert_close(averaged["value"], expected.detach())
    torch.testing.assert_close(averaged["gradient"], weights_ED.grad)


@pytest.mark.parametrize("num_accumulated", [1, 2, 4])
def test_in_training_it_is_that_of_all_utterances_since_the_last_step(
    num_accumulated: int, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """A learning rate of zero keeps the gate as it was, so that every logged value can be computed again."""
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    options = ["--trainer.max_epochs", "1", "--data.batch_size", "4", "--model.optimizer.init_args.lr", "0"]
    options += ["--trainer.accumulate_grad_batches", str(num_accumulated)]
    fit("moe", run.path, tiny_whisper, *options, *callback("RecordBalance", file=tmp_path / "balance"))
    lines = [line.split() for line in (tmp_path / "balance").read_text().splitlines()]
    assert sum(len(ids) for _, *ids in lines) == 24
    (store_dir,) = run.embedding_dirs()
    store = EmbeddingStore.load(store_dir)
    gate = Gate(store.embeddings_ND.shape[1], 2)
    gate.load_state_dict(torch.load(run.gate_file, weights_only=True))
    for start in range(0, len(lines), num_accumulated):
        window = lines[start : start + num_accumulated]
        ids = [id_ for _, *batch in window for id_ in batch]
        with torch.no_grad():
            logits_BE = gate(torch.from_numpy(store.of(ids))).double().numpy()
        assert float(window[-1][0]) == pytest.approx(written_formula(logits_BE), rel=1e-4)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_the_gates_gradient_in_training_is_that_of_the_formula_on_the_whole_batch(
    num_ranks: int, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """Over all ranks and both accumulated batches, and over the one that is left at the epoch's end."""
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    options = ["--trainer.max_epochs", "1", "--data.batch_size", "4"]
    options += ["--trainer.accumulate_grad_batches", "2", "--model.gate_training.balance_weight", "3"]
    options += ["--model.optimizer.init_args.lr", "0", *callback("RecordGateGradient", file=tmp_path / "steps")]
    if num_ranks == 1:
        fit("moe", run.path, tiny_whisper, *options)
    else:
        command = [str(part) for part in fit_arguments(run, "moe", tiny_whisper, "--data.num_workers", "0")]
        flags = [part for name, value in TWO_PROCESSES.items() for part in (f"--trainer.{name}", value)]
        run_command("moe", *command, *options, *flags)
    ranks = [torch.load(tmp_path / f"steps.{rank}", weights_only=True) for rank in range(num_ranks)]
    assert [len(steps) for steps in ranks] == [-(-6 // (2 * num_ranks))] * num_ranks
    store = EmbeddingStore.load(run.embedding_dirs()[0])
    gate = Gate(store.embeddings_ND.shape[1], 2)
    gate.load_state_dict(torch.load(run.gate_file, weights_only=True))
    largest = []
    for steps in zip(*ranks, strict=True):
        probs_BE = gate(torch.from_numpy(store.of([id_ for step in steps for id_ in step["ids"]]))).softmax(dim=1)
        share_E = torch.bincount(probs_BE.argmax(dim=1), minlength=2) / len(probs_BE)
        (expected,) = torch.autograd.grad(3 * 2 * (share_E * probs_BE.mean(dim=0)).sum(), gate.output.weight)
        largest.append(float(expected.abs().max()))
        for step in steps:
            torch.testing.assert_close(step["gradient"], expected, atol=1e-6, rtol=1e-3)
    assert max(largest) > 1e-3, "two experts with as many utterances each have none"
