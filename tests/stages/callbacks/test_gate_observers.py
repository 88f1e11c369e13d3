"""What the observers of the gate write to TensorBoard, from a real joint training."""

import io
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe_lightning.callbacks.expert_fields import ExpertFields, heat_map
from moe_lightning.callbacks.gate_regret import GateRegret
from moe_lightning.data.manifest import read_manifest
from moe_lightning.moe.responsibilities import judge
from moe_lightning.run.folder import RunDir
from tests.refusals import refuses
from tests.stage_runs import fit

OPTIONS = ["--trainer.max_epochs", "2", "--data.batch_size", "3"]
OBSERVERS = [
    "--trainer.callbacks+=moe_lightning.callbacks.expert_usage.ExpertUsage",
    "--trainer.callbacks+=moe_lightning.callbacks.gate_agreement.GateAgreement",
    "--trainer.callbacks+=moe_lightning.callbacks.gate_regret.GateRegret",
    *("--trainer.callbacks.max_batches", "100"),
    "--trainer.callbacks+=moe_lightning.callbacks.expert_fields.ExpertFields",
    *("--trainer.callbacks.every_n_epochs", "2"),
    "--trainer.callbacks+=tests.stages.callbacks.test_gate_observers.KeepGates",
]


class KeepGates(Callback):
    """Keeps the gates, soft labels and expert losses of the last validation."""

    kept: ClassVar[dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        losses_BE = pl_module.expert_losses(batch)
        for row, id_ in enumerate(batch.ids):
            self.kept[id_] = (outputs["gate_BE"][row], batch.soft_labels_BE[row], losses_BE[row])


@pytest.fixture(scope="module")
def observed_run(pretrained_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The joint stage, two epochs, with all observers."""
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path_factory.mktemp("observed") / "run")))
    KeepGates.kept.clear()
    fit("moe", run.path, tiny_whisper, *OPTIONS, *OBSERVERS)
    return run


@pytest.fixture(scope="module")
def events(observed_run: RunDir) -> EventAccumulator:
    accumulator = EventAccumulator(str(observed_run.tensorboard_dir / "moe"), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


@pytest.fixture(scope="module")
def last(observed_run: RunDir) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gates, soft labels and expert losses of the dev split after the last epoch."""
    assert len(KeepGates.kept) == 6
    gates, labels, losses = zip(*KeepGates.kept.values(), strict=True)
    return torch.stack(gates).numpy(), torch.stack(labels).numpy(), torch.stack(losses).numpy()


def test_the_agreement_is_that_of_the_gates_and_the_soft_labels(
    events: EventAccumulator, last: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    gates, labels, _ = last
    same, overlap = (events.Scalars(f"gate/{name}") for name in ("same_expert", "overlap"))
    assert len(same) == len(overlap) == 2, "one value an epoch, none from the sanity check"
    assert same[-1].value == pytest.approx((gates.argmax(axis=1) == labels.argmax(axis=1)).mean())
    assert overlap[-1].value == pytest.approx(float(np.minimum(gates, labels).sum(axis=1).mean()), abs=1e-5)


def test_the_regret_is_the_loss_of_the_chosen_expert_minus_the_best_ones(
    events: EventAccumulator, last: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    gates, _, losses = last
    expected = judge(gates, losses)
    found = {name: events.Scalars(f"regret/{name}")[-1].value for name in ("chosen_loss", "best_loss", "regret")}
    assert found["chosen_loss"] == pytest.approx(expected.chosen_loss, rel=1e-5)
    assert found["best_loss"] == pytest.approx(expected.best_loss, rel=1e-5)
    assert found["regret"] == pytest.approx(expected.regret, abs=1e-5)
    assert events.Scalars("regret/chosen_is_best")[-1].value == pytest.approx(expected.is_best)


def test_the_entropy_of_usage_is_between_0_and_1(events: EventAccumulator) -> None:
    assert all(0 <= point.value <= 1.00001 for point in events.Scalars("expert_usage/entropy"))


def test_a_heat_map_is_drawn_every_n_epochs_for_fields_with_a_few_values(
    events: EventAccumulator, observed_run: RunDir
) -> None:
    fields = {name for one in read_manifest(observed_run.manifest_file("dev")) for name in one.fields}
    drawn = [tag for tag in events.Tags()["images"] if tag.startswith("experts_by/")]
    assert drawn
    assert {tag.removeprefix("experts_by/") for tag in drawn} <= fields
    for tag in drawn:
        images = events.Images(tag)
        assert len(images) == 1, "of two epochs every second one is drawn"
        picture = np.asarray(Image.open(io.BytesIO(images[0].encoded_image_string)).convert("L"))
        assert picture.std() > 10, "there is something to see"


def test_they_change_nothing_that_is_learned(
    observed_run: RunDir, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    fit("moe", run.path, tiny_whisper, *OPTIONS)
    alone, observed = load_file(run.mixture_file), load_file(observed_run.mixture_file)
    assert all(torch.equal(alone[name], observed[name]) for name in alone)


def test_a_field_that_the_manifest_has_not_is_refused_before_the_training(
    pretrained_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(pretrained_run, tmp_path / "run"))
    observer = [
        "--trainer.callbacks+=moe_lightning.callbacks.expert_fields.ExpertFields",
        "--trainer.callbacks.fields",
        "[shoe_size]",
    ]
    with pytest.raises(SystemExit):
        fit("moe", run, tiny_whisper, *OPTIONS, *observer)
    assert "no dev utterance has a field 'shoe_size'; there are" in capsys.readouterr().err


def test_numbers_that_are_none_are_refused() -> None:
    for arguments in ({"every_n_epochs": 0}, {"max_batches": 0}):
        with refuses("setting.range"):
            GateRegret(**arguments)
    with refuses("setting.range", 0):
        ExpertFields(every_n_epochs=0)


@pytest.mark.parametrize(("num_values", "num_experts"), [(2, 2), (12, 8), (5, 64)])
def test_a_heat_map_holds_the_shares_of_each_value(num_values: int, num_experts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    counts_VE = torch.randint(0, 9, (num_values, num_experts), generator=generator).float()
    counts_VE[-1] = 0  # a value that no utterance of this split has
    figure = heat_map("accent", [f"value {number}" for number in range(num_values)], counts_VE)
    axes = figure.axes[0]
    shares_VE = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shares_VE[:-1].sum(axis=1), 100, rtol=1e-5)
    assert not shares_VE[-1].any()
    assert len(axes.texts) == (num_values * num_experts if num_experts <= 16 else 0)
    assert axes.get_yticklabels()[0].get_text() == f"value 0 ({int(counts_VE[0].sum())})"
