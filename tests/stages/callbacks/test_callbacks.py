"""What the callbacks write to TensorBoard, from a real training, and that they change nothing of it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe_lightning.run.folder import RunDir
from tests.stage_runs import fit

OPTIONS = ["--trainer.max_epochs", "2", "--data.batch_size", "8"]


@pytest.fixture(scope="module")
def observed_run(clustered_run: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The expert stage with both callbacks."""
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path_factory.mktemp("observed") / "run")))
    observers = ["--trainer.callbacks+=moe_lightning.callbacks.expert_usage.ExpertUsage"]
    observers += ["--trainer.callbacks+=moe_lightning.callbacks.sample_transcripts.SampleTranscripts"]
    observers += ["--trainer.callbacks.num_samples", "3"]
    fit("experts", run.path, tiny_whisper, *OPTIONS, *observers)
    return run


@pytest.fixture(scope="module")
def events(observed_run: RunDir) -> EventAccumulator:
    accumulator = EventAccumulator(str(observed_run.tensorboard_dir / "experts"))
    accumulator.Reload()
    return accumulator


def test_the_shares_of_the_experts_sum_to_1_after_every_epoch(events: EventAccumulator) -> None:
    for kind in ("utterances", "weight"):
        shares = [[point.value for point in events.Scalars(f"share_of_{kind}/expert_{expert}")] for expert in range(2)]
        assert [len(values) for values in shares] == [2, 2], "one value an epoch, none from the sanity check"
        for one, other in zip(*shares, strict=True):
            assert one + other == pytest.approx(1, abs=1e-6)


def test_the_share_of_utterances_is_that_of_the_dev_splits_soft_labels(
    events: EventAccumulator, observed_run: RunDir, tiny_whisper: Path
) -> None:
    from moe_lightning.run.inputs import RunInputs

    inputs = RunInputs.load(observed_run, str(tiny_whisper))
    dev = [entry.id for entry in inputs.store.entries if entry.split == "dev"]
    expected = inputs.soft_labels.of(dev).argmax(axis=1).mean()
    assert events.Scalars("share_of_utterances/expert_1")[-1].value == pytest.approx(float(expected))


def test_losses_and_word_errors_are_there_too(events: EventAccumulator) -> None:
    assert {"val/loss", "val/wer"} <= set(events.Tags()["scalars"])


def test_transcripts_are_a_table_of_so_many_rows(events: EventAccumulator) -> None:
    points = events.Tensors("transcripts/text_summary")
    assert len(points) == 2
    for point in points:
        header, rule, *rows = point.tensor_proto.string_val[0].decode().splitlines()
        assert header == "| utterance | reference | hypothesis |"
        assert rule == "|---|---|---|"
        assert len(rows) == 3
        assert all(" tone " in row and row.startswith("| dev_") for row in rows)


def test_they_change_nothing_that_is_learned(
    observed_run: RunDir, clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    fit("experts", run.path, tiny_whisper, *OPTIONS)
    alone, observed = load_file(run.pretrained_experts_file), load_file(observed_run.pretrained_experts_file)
    assert all(torch.equal(alone[name], observed[name]) for name in alone)


def test_an_expert_that_nobody_is_sent_to_is_warned_about(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    observer = [
        "--trainer.callbacks+=moe_lightning.callbacks.expert_usage.ExpertUsage",
        "--trainer.callbacks.dead_below",
        "0.999",
    ]
    with pytest.warns(UserWarning, match=r"experts \[0, 1\] get less than 99\.9% of the gate's weight"):
        fit("experts", run.path, tiny_whisper, "--trainer.max_epochs", "1", "--data.batch_size", "8", *observer)
