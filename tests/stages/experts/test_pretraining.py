"""The stage: experts trained together are those that jobs of their own would train."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moe_lightning.experts.__main__ import main as experts_command
from moe_lightning.experts.best import BestExperts
from moe_lightning.experts.objective import lessons
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.run.folder import RunDir
from moe_lightning.training.speech_loaders import ExpertChoice
from tests.stage_runs import Stopped, callback, fit
from tests.unit.models.test_lora import LANGUAGES, TEXTS, speech, with_deltas

SMALL = ["--model.rank", "4", "--model.shared_rank", "0", "--trainer.max_epochs", "2", "--data.batch_size", "4"]
BY_EXPERT = ["--model.assignment", "hard", "--data.group_by_expert", "true", "--model.schedule", "constant"]
BY_EXPERT += ["--model.num_warmup_steps", "0", "--model.dropout", "0.1", "--model.optimizer.init_args.lr", "1e-2"]


def copy_of(run: Path, folder: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run, folder / "run")))


@pytest.fixture(scope="module")
def packed(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Both experts in one job, batches of one expert each."""
    run = copy_of(clustered_run, tmp_path_factory.mktemp("packed"))
    fit("experts", run.path, tiny_whisper, *SMALL, *BY_EXPERT, *callback("RecordOrder", file=run.path / "order"))
    return run


def finished_again(run: RunDir, whisper: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command for all experts says of a run whose experts were joined."""
    capsys.readouterr()
    fit("experts", run.path, whisper, *SMALL, *BY_EXPERT)
    return capsys.readouterr().out


def test_experts_trained_together_equal_jobs_of_their_own(
    packed: RunDir, clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(clustered_run, tmp_path)
    together, orders = load_file(packed.pretrained_experts_file), []
    for expert in range(2):
        alone = RunDir(run.path, expert)
        options = [*SMALL, *BY_EXPERT, "--data.expert", str(expert)]
        fit("experts", run.path, tiny_whisper, *options, *callback("RecordOrder", file=tmp_path / f"order_{expert}"))
        rows = slice(4 * expert, 4 * (expert + 1))
        for name, stacked_RD in load_file(alone.pretrained_experts_file).items():
            torch.testing.assert_close(stacked_RD[rows], together[name][rows], atol=1e-6, rtol=1e-5)
        orders.append((tmp_path / f"order_{expert}").read_text().splitlines())
        assert (alone.stage_dir("experts") / "checkpoints" / "last.ckpt").exists()
        assert (run.expert_dir(expert) / "adapter_model.safetensors").exists()
    order = (packed.path / "order").read_text().splitlines()
    assert sorted(order) == sorted(orders[0] + orders[1])
    assert [line for line in order if line in orders[0]] == orders[0]
    assert order not in (orders[0] + orders[1], orders[1] + orders[0]), "the experts take turns"
    assert run.experts_alone() == [0, 1]
    experts_command(["join", "--run-dir", str(run.path)])
    joined = load_file(run.pretrained_experts_file)
    assert all(torch.allclose(joined[name], together[name], atol=1e-6, rtol=1e-5) for name in together)
    assert "finished before" in finished_again(run, tiny_whisper, capsys)


def test_both_experts_have_moved(packed: RunDir) -> None:
    for name, stacked_RD in load_file(packed.pretrained_experts_file).items():
        if name.endswith("up_RD"):
            assert stacked_RD[:4].any()
            assert stacked_RD[4:].any()


def test_a_stopped_pretraining_keeps_each_experts_best(
    packed: RunDir, clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = copy_of(clustered_run, tmp_path)
    num_batches = len((packed.path / "order").read_text().splitlines()) // 2 + 1  # in the second epoch
    with pytest.raises(Stopped):
        fit("experts", run.path, tiny_whisper, *SMALL, *BY_EXPERT, *callback("StopAfter", num_batches=num_batches))
    fit("experts", run.path, tiny_whisper, *SMALL, *BY_EXPERT)
    expected, found = load_file(packed.pretrained_experts_file), load_file(run.pretrained_experts_file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_expert_that_has_stopped_rests_while_the_other_learns(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    """At a rate of zero no loss gets better, so both stop, and with them the training."""
    run = copy_of(clustered_run, tmp_path)
    options = [*SMALL, *BY_EXPERT, "--model.optimizer.init_args.lr", "0", "--model.expert_patience", "1"]
    record = ["--trainer.callbacks+=tests.stage_runs.RecordValidations"]
    fit(
        *("experts", run.path, tiny_whisper, *options, "--trainer.max_epochs", "9", *record),
        f"--trainer.callbacks.file={tmp_path / 'validations'}",
    )
    assert (tmp_path / "validations").read_text().split() == ["0", "1"]


def test_each_expert_keeps_the_rows_of_its_own_best_validation(tiny_whisper: Path) -> None:
    experts = with_deltas(tiny_whisper, ExpertConfig(3, rank=2))
    best = BestExperts(experts, patience=2)
    states = []
    nan = float("nan")
    for losses in ([3.0, 1.0, nan], [2.0, 1.5, nan], [2.5, 1.2, nan], [1.0, 0.5, nan]):
        states.append([parameter.detach().clone() for parameter in experts.expert_parameters()])
        best.update(experts, torch.tensor(losses))
        for parameter in experts.expert_parameters():
            parameter.data += 1
    assert best.has_stopped_E.tolist() == [False, True, False]  # the second one did worse twice, so 0.5 is too late
    best.restore(experts)
    for number, parameter in enumerate(experts.expert_parameters()):
        for expert, when in ((0, 3), (1, 0), (2, 3)):
            rows = experts.config.rows_of(expert)
            assert torch.equal(parameter[rows], states[when][number][rows])


def test_an_expert_that_had_a_loss_keeps_its_best_through_a_loss_of_nan(tiny_whisper: Path) -> None:
    experts = with_deltas(tiny_whisper, ExpertConfig(2, rank=2))
    best = BestExperts(experts, patience=2)
    states = []
    for losses in ([3.0, float("inf")], [float("nan"), 2.0], [float("inf"), 1.0]):
        states.append([parameter.detach().clone() for parameter in experts.expert_parameters()])
        best.update(experts, torch.tensor(losses))
        for parameter in experts.expert_parameters():
            parameter.data.fill_(torch.nan)
    assert best.has_stopped_E.tolist() == [True, False]
    assert best.loss_E.tolist() == [3.0, 1.0]
    best.restore(experts)
    for number, parameter in enumerate(experts.expert_parameters()):
        assert torch.equal(parameter[experts.config.rows_of(0)], states[0][number][experts.config.rows_of(0)])


def test_nobody_waits_for_the_no_op_expert_to_stop(tiny_whisper: Path) -> None:
    """It may have no dev utterance, and so never a loss."""
    experts = with_deltas(tiny_whisper, ExpertConfig(3, rank=2, noop_expert=True))
    best = BestExperts(experts, patience=1)
    for stopped in ([False, False, True], [False, True, True], [True, True, True]):
        assert best.has_stopped_E.tolist() == stopped
        best.update(experts, torch.tensor([2.0 if not stopped[1] else 3.0, float("inf"), float("nan")]))


def test_separate_lessons_weigh_each_experts_own_loss_by_the_soft_label(tiny_whisper: Path) -> None:
    experts = with_deltas(tiny_whisper, ExpertConfig(3, rank=2, dropout=0.0))
    soft_labels_BE = torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.1, 0.75, 0.15]])
    learned = lessons(soft_labels_BE, "top_k", 2, "separate", None)
    with torch.no_grad():
        found = experts.losses(*speech(), TEXTS, LANGUAGES, learned.gate_NE)
        for expert in range(3):
            alone = experts.losses(*speech(), TEXTS, LANGUAGES, torch.eye(3)[[expert] * 3])
            for number in (learned.experts_N == expert).nonzero().flatten().tolist():
                torch.testing.assert_close(found.sum_B[number], alone.sum_B[number // 2], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(learned.weights_N.view(3, 2).sum(dim=1), torch.ones(3))
    torch.testing.assert_close(learned.weights_N[0], torch.tensor(0.75))


@pytest.mark.parametrize(("num_assigned", "rows"), [(1, [1]), (2, [1, 2]), (None, [1, 2])])
def test_an_expert_alone_is_trained_on_utterances_that_give_it_weight(
    num_assigned: int | None, rows: list[int]
) -> None:
    """Of certain labels the second likeliest expert has none; a batch of such utterances would have no mean loss."""
    soft_labels_NE = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.4, 0], [0, 0, 1]])
    assert ExpertChoice(expert=1, num_assigned=num_assigned).rows(soft_labels_NE).tolist() == rows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.expert", "0"], "model.shared_rank 0"),
        (["--data.expert", "0", "--model.shared_rank", "0"], "model.objective separate"),
        (["--data.expert", "2", "--model.shared_rank", "0", "--model.assignment", "hard"], r"must be in 0\.\.1"),
        (["--model.expert_patience", "3"], "do not depend on each other"),
        (["--model.objective", "both"], "objective"),
        (["--model.target_modules", "[query]"], "no linear layer named query"),
    ],
)
def test_what_cannot_be_trained_alone_is_refused(
    options: list[str],
    words: str,
    clustered_run: Path,
    tiny_whisper: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    with pytest.raises(SystemExit) as ended:
        fit("experts", copy_of(clustered_run, tmp_path).path, tiny_whisper, *options)
    assert ended.value.code == 2
    assert re.search(words, capsys.readouterr().err)
