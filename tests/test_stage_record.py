"""A second run skips what is done, refuses what has changed, and says which setting it was."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moe_lightning.errors import InputError, MissingInputError, StaleStageError
from moe_lightning.run_dir import STAGES, RunDir
from moe_lightning.stage_record import INPUTS, is_finished, recorded_stage
from moe_lightning.stage_settings import command_settings

SETTINGS = {"seed": 42.0, "batch_size": 4.0}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def finish(run: RunDir, stage: str = "corpus", defaults: dict | None = None, **changes: object) -> bool:
    """Do a stage, which writes one file; gives whether there was anything to do."""
    with recorded_stage(run, stage, {**SETTINGS, **changes}, defaults) as has_work:  # type: ignore[arg-type]
        if has_work:
            (run.stage_dir(stage) / "work").touch()  # type: ignore[arg-type]
    return has_work


def test_every_stage_comes_after_those_that_it_reads() -> None:
    assert set(INPUTS) == set(STAGES)
    for place, stage in enumerate(STAGES):
        assert set(INPUTS[stage]) <= set(STAGES[:place])


def test_a_finished_stage_is_skipped(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(run) is True
    assert finish(run) is False
    assert "corpus: finished before with the same settings; nothing to do" in capsys.readouterr().out


def test_the_record_says_what_the_stage_was_made_with(run: RunDir) -> None:
    finish(run, defaults={"pooling": "mean"})
    record = json.loads(run.record_file("corpus").read_text())
    assert record["settings"] == SETTINGS
    assert record["defaults"] == {"pooling": "mean"}
    assert {"stage", "hash", "inputs", "version", "versions", "revision", "started", "seconds"} <= record.keys()
    assert record["seed"] == 42
    empty = hashlib.sha256(b"").hexdigest()
    assert record["files"] == {"corpus/work": {"bytes": 0, "sha256": empty}}
    assert sorted(file.name for file in run.stage_dir("corpus").iterdir()) == ["stage.json", "work"]


@pytest.mark.parametrize("knob", ["batch_size", "num_workers", "trainer.devices", "trainer.precision", "no_plot"])
def test_a_knob_of_speed_or_memory_makes_nothing_stale(run: RunDir, knob: str) -> None:
    finish(run)
    assert finish(run, **{knob: "another"}) is False


def test_accumulation_and_checkpoint_frequency_are_knobs_too(run: RunDir) -> None:
    finish(run)
    assert finish(run, **{"trainer.accumulate_grad_batches": 8.0, "resume.every_n_epochs": 2.0}) is False


def test_a_changed_setting_is_named_with_both_values(run: RunDir) -> None:
    finish(run, pooling="mean")
    with pytest.raises(StaleStageError, match=r"corpus.*pooling was mean, now flatten, seed was 42, now 7.*--run-dir"):
        finish(run, pooling="flatten", seed=7.0)


def test_a_setting_that_is_new_or_gone_is_named(run: RunDir) -> None:
    finish(run, percent=10.0)
    with pytest.raises(StaleStageError, match="percent was 10, now not given"):
        finish(run)
    with pytest.raises(StaleStageError, match="reduce was not given, now umap"):
        finish(run, percent=10.0, reduce="umap")


def test_a_flag_that_repeats_its_default_changes_nothing(run: RunDir) -> None:
    finish(run, defaults={"pooling": "mean"})
    assert finish(run, pooling="mean") is False
    with pytest.raises(StaleStageError, match="pooling was mean, now flatten"):
        finish(run, pooling="flatten")


def test_nothing_is_deleted_when_settings_have_changed(run: RunDir) -> None:
    finish(run)
    before = {file.name: file.read_bytes() for file in run.stage_dir("corpus").iterdir()}
    with pytest.raises(StaleStageError):
        finish(run, seed=7.0)
    assert {file.name: file.read_bytes() for file in run.stage_dir("corpus").iterdir()} == before


def test_a_stage_waits_for_those_it_reads(run: RunDir) -> None:
    with pytest.raises(MissingInputError, match="does not exist; check --run-dir"):
        finish(run, "embedding")
    assert not run.path.exists()
    run.path.mkdir()
    with pytest.raises(MissingInputError, match="the stage corpus of this run has not finished"):
        finish(run, "embedding")
    finish(run)
    assert finish(run, "embedding") is True


def test_a_stage_is_stale_when_what_it_reads_was_made_again(run: RunDir) -> None:
    finish(run)
    finish(run, "embedding")
    run.record_file("corpus").unlink()
    finish(run, seed=7.0)
    with pytest.raises(StaleStageError, match="was made from another corpus"):
        finish(run, "embedding")


def test_a_stage_made_again_in_the_same_way_leaves_the_later_ones_fresh(run: RunDir) -> None:
    finish(run)
    finish(run, "embedding")
    run.record_file("corpus").unlink()
    finish(run)
    assert finish(run, "embedding") is False


def test_a_fault_leaves_the_stage_begun_and_the_next_run_goes_on(run: RunDir) -> None:
    with pytest.raises(ZeroDivisionError), recorded_stage(run, "corpus", SETTINGS):
        raise ZeroDivisionError
    assert not run.record_file("corpus").exists()
    assert is_finished(run, "corpus", SETTINGS) is False
    with pytest.raises(StaleStageError, match="seed was 42, now 7"):
        finish(run, seed=7.0)
    assert finish(run) is True
    assert is_finished(run, "corpus", SETTINGS) is True


def test_a_stage_that_refuses_its_input_has_not_begun(run: RunDir) -> None:
    with pytest.raises(InputError), recorded_stage(run, "corpus", SETTINGS):
        raise InputError("no such thing")
    assert finish(run, seed=7.0) is True


def test_a_killed_process_leaves_the_stage_begun(run: RunDir) -> None:
    script = (
        "import os, sys; from pathlib import Path; from moe_lightning.run_dir import RunDir;"
        "from moe_lightning.stage_record import recorded_stage\n"
        "with recorded_stage(RunDir(Path(sys.argv[1])), 'corpus', {'seed': 42.0, 'batch_size': 4.0}):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(run.path)], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert not run.record_file("corpus").exists()
    assert finish(run) is True


def test_only_the_first_rank_keeps_the_record(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with recorded_stage(run, "corpus", SETTINGS) as has_work:
        assert has_work is True
    assert not run.path.exists()
    monkeypatch.setenv("RANK", "0")  # the first of all nodes, whatever its local rank says
    run.stage_dir("corpus").mkdir(parents=True)
    assert finish(run) is True
    assert run.record_file("corpus").exists()


def test_flags_are_laid_over_the_configs_that_they_name(tmp_path: Path) -> None:
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    files[0].write_text(yaml.safe_dump({"model": {"rank": 16, "alpha": 32}, "seed_everything": 1}))
    files[1].write_text(yaml.safe_dump({"model": {"rank": 8}}))
    flags = ["fit", "--model.alpha", "4", "--config", str(files[0]), "--config", str(files[1])]
    assert command_settings(flags) == {"model.rank": 8.0, "model.alpha": 4.0, "seed_everything": 1.0}


@pytest.mark.parametrize("form", [["--config", "FILE"], ["--config=FILE"], ["-c", "FILE"]])
def test_a_config_counts_in_whatever_form_it_is_named(form: list[str], tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("model: {rank: 4}\n")
    assert command_settings(["fit", *(word.replace("FILE", str(file)) for word in form)]) == {"model.rank": 4.0}


def test_the_same_number_is_the_same_setting_however_it_is_written() -> None:
    spellings = (["--lr", "1e-4"], ["--lr", "0.0001"], ["--lr=1.0e-4"])
    assert {command_settings(flags)["lr"] for flags in spellings} == {1e-4}


def test_paths_of_the_run_and_where_to_resume_are_no_settings() -> None:
    flags = ["--run-dir", "a", "--output-dir", "b", "--embedding-dir", "c", "--ckpt_path", "last", "--print_config"]
    assert command_settings(flags) == {}


@pytest.mark.parametrize("value", ["[mine", "@home/corpus", "a: b: c", "*", "%x", "{", "2024-01-01"])
def test_a_value_that_is_no_yaml_is_taken_as_the_text_it_is(value: str) -> None:
    assert command_settings(["--dataset-root", value]) == {"dataset_root": value}


def test_a_run_can_be_moved(run: RunDir, tmp_path: Path) -> None:
    finish(run)
    os.rename(run.path, tmp_path / "moved")
    assert finish(RunDir(tmp_path / "moved")) is False
