"""Refinement by expert loss: its rounds in a real training, what they leave, and that a stop changes nothing."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.models.gate import Gate
from moe_lightning.models.routing import soft_label_divergence
from moe_lightning.moe.refinement_round import Survey, asked, decide, refinement_epochs
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs
from moe_lightning.settings.joint import RefinementSettings
from tests.refusals import refuses
from tests.stage_runs import Stopped, callback, fit

ROUNDS = ["--model.refinement.num_rounds", "2", "--model.refinement.temperature", "0.01"]
TWO_EPOCHS = ["--trainer.max_epochs", "2", "--data.batch_size", "4"]
EVERY_STEP = ["--resume.every_n_train_steps", "1", "--resume.every_n_epochs", "null"]
EVERY_STEP += ["--resume.save_on_train_epoch_end", "null"]


class RecordLabels(Callback):
    """Keeps the soft label of every utterance that is trained on or validated, by epoch."""

    train: ClassVar[dict[int, dict[str, np.ndarray]]] = {}
    val: ClassVar[dict[int, dict[str, np.ndarray]]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        labels = dict(zip(batch.ids, batch.soft_labels_BE.numpy(), strict=True))
        self.train.setdefault(trainer.current_epoch, {}).update(labels)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        labels = dict(zip(batch.ids, batch.soft_labels_BE.numpy(), strict=True))
        self.val.setdefault(trainer.current_epoch, {}).update(labels)


@pytest.fixture(scope="module")
def refined_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The joint stage, two epochs that begin with a round each, never stopped."""
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path_factory.mktemp("refined") / "tiny")))
    observer = "--trainer.callbacks+=tests.stages.moe.test_refinement.RecordLabels"
    fit("moe", run.path, tiny_whisper, *TWO_EPOCHS, *ROUNDS, "--trainer.num_sanity_val_steps", "0", observer)
    return run


def test_every_batch_of_an_epoch_has_the_labels_of_its_round(refined_run: RunDir) -> None:
    for epoch in (0, 1):
        labels = SoftLabels.load(refined_run.refined_soft_labels_file(epoch + 1))
        for kept, num in ((RecordLabels.train[epoch], 24), (RecordLabels.val[epoch], 6)):
            assert len(kept) == num
            np.testing.assert_allclose(np.stack(list(kept.values())), labels.of(list(kept)), atol=1e-6)


def test_each_round_leaves_soft_labels_of_every_utterance_with_balanced_experts(
    refined_run: RunDir, tiny_whisper: Path
) -> None:
    clusters = RunInputs.load(refined_run, str(tiny_whisper)).soft_labels
    before = clusters
    for number in (1, 2):
        labels = SoftLabels.load(refined_run.refined_soft_labels_file(number))
        assert labels.ids == clusters.ids
        train = [utterance.id for utterance in read_manifest(refined_run.manifest_file("train"))]
        np.testing.assert_allclose(labels.of(train).mean(axis=0), 0.5, atol=1e-5)
        assert not np.allclose(labels.of(train), before.of(train))
        before = labels


def test_the_test_split_keeps_its_labels(refined_run: RunDir, tiny_whisper: Path) -> None:
    test = [utterance.id for utterance in read_manifest(refined_run.manifest_file("test"))]
    clusters = RunInputs.load(refined_run, str(tiny_whisper)).soft_labels
    refined = SoftLabels.load(refined_run.refined_soft_labels_file(2))
    np.testing.assert_allclose(refined.of(test), clusters.of(test), atol=1e-6)


def test_the_report_says_of_each_round_what_it_changed(refined_run: RunDir) -> None:
    rounds = json.loads(refined_run.refinement_file.read_text())
    assert [(one["round"], one["epoch"]) for one in rounds] == [(1, 0), (2, 1)]
    for one in rounds:
        assert 0 <= one["agreement"] <= 1
        assert sum(one["usage"]) == pytest.approx(1, abs=1e-5)
        assert one["without_finite_loss"] == 0
        for split in ("train", "dev", "dev_refitted"):
            assert one[split]["regret"] == pytest.approx(one[split]["chosen_loss"] - one[split]["best_loss"])
        assert one["fields"], "agreement with fields of the manifest"


def test_the_curves_are_in_tensorboard(refined_run: RunDir) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(refined_run.tensorboard_dir / "moe"))
    events.Reload()
    rounds = json.loads(refined_run.refinement_file.read_text())
    for name in ("agreement", "regret_dev", "regret_train", "usage/expert_1"):
        assert len(events.Scalars(f"refinement/{name}")) == 2
    assert events.Scalars("refinement/regret_dev")[1].value == pytest.approx(rounds[1]["dev"]["regret"], rel=1e-4)


@pytest.mark.parametrize("num_batches", [2, 6, 8])  # in the first epoch, at its end, in the second
def test_a_refined_training_stopped_and_resumed_equals_one_never_stopped(
    num_batches: int, refined_run: RunDir, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "tiny")))
    options = [*TWO_EPOCHS, *ROUNDS, *EVERY_STEP]
    with pytest.raises(Stopped):
        fit("moe", run.path, tiny_whisper, *options, *callback("StopAfter", num_batches=num_batches))
    fit("moe", run.path, tiny_whisper, *options)
    expected, found = load_file(refined_run.mixture_file), load_file(run.mixture_file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for number in (1, 2):
        files = [one.refined_soft_labels_file(number).read_text() for one in (refined_run, run)]
        assert files[0] == files[1]
    reports = [json.loads(one.refinement_file.read_text()) for one in (refined_run, run)]
    assert reports[0] == reports[1]


def test_a_training_without_rounds_leaves_no_trace_of_them(finished_run: Path) -> None:
    run = RunDir(finished_run)
    assert not run.refinement_file.exists()
    assert not list(run.stage_dir("moe").glob("refined*"))


def made_up(num: int, seed: int = 0) -> tuple[Survey, np.ndarray]:
    """Utterances of two kinds that the pooled vector tells apart; expert 1 is better on the second kind."""
    generator = np.random.default_rng(seed)
    kinds_N = generator.integers(2, size=num)
    pooled_NP = generator.normal(size=(num, 4)) + 3 * kinds_N[:, None] * np.eye(4)[0]
    losses_NE = 1 + 0.3 * (np.arange(2) != kinds_N[:, None]) + 0.02 * generator.normal(size=(num, 2))
    ids = tuple(f"{seed}_{row}" for row in range(num))
    return Survey(ids, losses_NE.astype(np.float32), torch.from_numpy(pooled_NP).float()), kinds_N


def test_a_round_finds_what_the_losses_say_and_the_gate_learns_it() -> None:
    """The labels before know nothing: the losses alone bring the kinds apart."""
    (train, kinds_N), (dev, dev_kinds_N) = made_up(400), made_up(100, seed=1)
    before = SoftLabels((*train.ids, *dev.ids), np.full((500, 2), 0.5, dtype=np.float32))
    torch.manual_seed(0)
    head = Gate(4, 2, hidden_dim=32)
    head.standardise(train.pooled_NP)
    plan = RefinementSettings(1, temperature=0.05, gate_epochs=30, gate_learning_rate=1e-2)
    made = decide(plan, head, train, dev, before, seed=0)
    assert (made.labels.of(train.ids).argmax(axis=1) == kinds_N).mean() > 0.9
    assert made.report["dev"]["regret"] > 0.05, "before the round the gate does not know"
    assert made.report["dev_refitted"]["regret"] < 0.05
    assert made.report["gate_accuracy"] > 0.85
    with torch.no_grad():
        before_divergence = soft_label_divergence(head(train.pooled_NP), torch.from_numpy(made.labels.of(train.ids)))
        head.load_state_dict(made.head)
        after_divergence = soft_label_divergence(head(train.pooled_NP), torch.from_numpy(made.labels.of(train.ids)))
    assert after_divergence < 0.5 * before_divergence
    assert (dev.gates(head).argmax(axis=1) == dev_kinds_N).mean() > 0.85
    again = decide(plan, Gate(4, 2, hidden_dim=32), train, dev, made.labels, seed=0)
    assert again.report["agreement"] > 0.85


def test_more_rounds_than_epochs_are_refused_as_the_training_starts(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(pretrained_run, tmp_path / "run"))
    with pytest.raises(SystemExit):
        fit("moe", run, tiny_whisper, *TWO_EPOCHS, "--model.refinement.num_rounds", "3")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: refinement.num_rounds is 3 and max_epochs 2: each round begins an epoch")


def test_rounds_are_spread_over_the_epochs_and_are_not_more_than_they() -> None:
    assert refinement_epochs(RefinementSettings(0), None) == ()
    assert refinement_epochs(RefinementSettings(1), 10) == (0,)
    assert refinement_epochs(RefinementSettings(4), 10) == (0, 2, 5, 7)
    assert refinement_epochs(RefinementSettings(3), 3) == (0, 1, 2)
    for max_epochs in (2, -1, None):
        with refuses("setting.conflict", "refinement.num_rounds=3"):
            refinement_epochs(RefinementSettings(3), max_epochs)


@pytest.mark.parametrize("arguments", [{"num_rounds": -1}, {"temperature": 0.0}, {"balance": 1.1}, {"balance": -0.1}])
def test_a_plan_that_is_none_is_refused(arguments: dict[str, float]) -> None:
    with refuses("setting.range"):
        RefinementSettings(**arguments)  # type: ignore[arg-type]


def test_what_a_speaker_says_goes_to_one_expert_by_the_sum_of_the_losses_that_were_asked_for() -> None:
    losses_NE = np.array([[1.0, 2.0], [1.5, 1.0], [np.nan, np.nan], [3.0, 1.0], [np.nan, np.nan]], dtype=np.float32)
    survey = Survey(tuple("abcde"), losses_NE, torch.zeros(5, 4), ("x", "x", "x", "y", "z"))
    np.testing.assert_allclose(survey.judged_losses()[:4], [[1.25, 1.5]] * 3 + [[3.0, 1.0]])
    priors_NE = np.tile([0.01, 0.99], (5, 1))
    shares_NE = survey.shares(priors_NE, temperature=0.1)
    first = 1 / (1 + np.exp(-(3.0 - 2.5) / 0.1))  # without a prior
    np.testing.assert_allclose(shares_NE[:3, 0], first)
    np.testing.assert_allclose(shares_NE[3, 1], 1 / (1 + np.exp(-20)))
    np.testing.assert_allclose(shares_NE[4], [0.01, 0.99])  # of whom nothing was asked keeps what the gate says


def test_the_experts_are_asked_of_some_utterances_of_every_speaker(pretrained_run: Path) -> None:
    train = read_manifest(RunDir(pretrained_run).manifest_file("train"))
    plan = RefinementSettings(1, by="speaker", per_speaker=2)
    chosen = asked(plan, train, seed=1)
    by_speaker = Counter(utterance.speaker for utterance in train if utterance.id in chosen)
    assert by_speaker == {utterance.speaker: 2 for utterance in train}
    assert asked(plan, train, seed=1) == chosen != asked(plan, train, seed=2)
    assert len(asked(RefinementSettings(1), train, seed=1)) == len(train)


def test_a_round_by_speaker_gives_all_that_a_speaker_says_to_the_same_experts(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "tiny")))
    by_speaker = [
        "--model.refinement.by",
        "speaker",
        "--model.refinement.per_speaker",
        "2",
        "--model.refinement.balance",
        "0",
    ]
    fit("moe", run.path, tiny_whisper, *TWO_EPOCHS, "--model.refinement.num_rounds", "1", *by_speaker)
    labels = SoftLabels.load(run.refined_soft_labels_file(1))
    rows: dict[str, list[np.ndarray]] = {}
    for utterance in read_manifest(run.manifest_file("train")):
        rows.setdefault(utterance.speaker, []).append(labels.of([utterance.id])[0])
    assert len(rows) > 1 < max(map(len, rows.values()))
    for of_one in rows.values():
        np.testing.assert_allclose(of_one, [of_one[0]] * len(of_one), atol=1e-6)
    assert json.loads(run.refinement_file.read_text())[0]["by"] == "speaker"
