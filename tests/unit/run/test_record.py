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

from moe_lightning.errors import InputError, StaleStageError
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import is_finished, recorded_stage
from moe_lightning.run.stages import STAGES, info
from moe_lightning.settings.comparison import StageSettings, command_settings, flat_settings
from tests.places import ROOT
from tests.refusals import refuses

SETTINGS = {"seed": 42.0, "batch_size": 4.0}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


KNOBS = {"batch_size", "num_workers", "no_plot", "resume", "trainer.devices", "trainer.precision"}
KNOBS |= {"trainer.accumulate_grad_batches"}


def settings(defaults: dict | None = None, **changes: object) -> StageSettings:
    """Settings of a command with these flags."""
    given = {**SETTINGS, **changes}
    return StageSettings(given, {**(defaults or {}), **given}, defaults, frozenset(KNOBS))


def finish(run: RunDir, stage: str = "corpus", defaults: dict | None = None, **changes: object) -> bool:
    """Do a stage, which writes one file; gives whether there was anything to do."""
    with recorded_stage(run, stage, settings(defaults, **changes)) as has_work:  # type: ignore[arg-type]
        if has_work:
            (run.stage_dir(stage) / "work").touch()  # type: ignore[arg-type]
    return has_work


def test_every_stage_comes_after_those_that_it_reads() -> None:
    for place, stage in enumerate(STAGES):
        assert set(info(stage).after) <= set(STAGES[:place])


def test_a_finished_stage_is_skipped(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(run) is True
    assert finish(run) is False
    assert "corpus: finished before with the same settings; nothing to do" in capsys.readouterr().out


def test_the_record_says_what_the_stage_was_made_with(run: RunDir) -> None:
    finish(run, defaults={"pooling": "mean"})
    record = json.loads(run.record_file("corpus").read_text())
    assert record["settings"] == SETTINGS
    assert record["defaults"] == {"pooling": "mean"}
    assert record["resolved"] == {**SETTINGS, "pooling": "mean"}
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
    with refuses("run.other-settings", {"pooling": ("mean", "flatten"), "seed": (42.0, 7.0)}):
        finish(run, pooling="flatten", seed=7.0)


def test_a_setting_that_is_new_or_gone_is_named(run: RunDir) -> None:
    finish(run, percent=10.0)
    with refuses("run.other-settings", {"percent": (10.0, None)}):
        finish(run)
    with refuses("run.other-settings", {"reduce": (None, "umap")}):
        finish(run, percent=10.0, reduce="umap")


def test_a_flag_that_repeats_its_default_changes_nothing(run: RunDir) -> None:
    defaults = {"pooling": "mean"}
    finish(run, defaults=defaults)
    assert finish(run, defaults=defaults, pooling="mean") is False
    with refuses("run.other-settings", {"pooling": ("mean", "flatten")}):
        finish(run, defaults=defaults, pooling="flatten")


def test_without_its_parser_a_stage_is_compared_by_the_defaults_that_it_had(run: RunDir) -> None:
    finish(run, defaults={"pooling": "mean", "layer": "last"}, layer="6")
    assert is_finished(run, "corpus", StageSettings({**SETTINGS, "layer": "6", "pooling": "mean"}))
    with refuses("run.other-settings", {"layer": ("6", "last")}):
        is_finished(run, "corpus", StageSettings(SETTINGS))
    with refuses("setting.unknown", ["polling"]):
        is_finished(run, "corpus", StageSettings({**SETTINGS, "layer": "6", "polling": "mean"}))


def test_a_default_of_another_version_is_a_change_and_a_new_setting_at_its_default_is_none(run: RunDir) -> None:
    finish(run, defaults={"pad": "batch"})
    assert finish(run, defaults={"pad": "batch", "window": "auto"}) is False
    for defaults in ({"pad": "30s"}, {"window": "auto"}):
        with refuses("run.other-settings"):
            finish(run, defaults=defaults)
    with refuses("run.other-settings", {"window": (None, 10.0)}):
        finish(run, defaults={"pad": "batch", "window": "auto"}, window=10.0)


def test_of_a_record_whose_defaults_hold_what_was_given_a_flag_dropped_is_seen_too(run: RunDir) -> None:
    """Version 0.1.0 wrote such ones of the stages that train, in its first months."""
    finish(run)
    record = json.loads(run.record_file("corpus").read_text())
    del record["resolved"]
    everything = {**SETTINGS, "clip": 0.5, "layer": "last"}
    old = {**record, "settings": {**SETTINGS, "clip": 0.5}, "defaults": everything}
    run.record_file("corpus").write_text(json.dumps(old))
    same = {**SETTINGS, "clip": 0.5}
    for now in (StageSettings(same), StageSettings(same, {**same, "layer": "last"}, {"layer": "last"})):
        assert is_finished(run, "corpus", now)
    with refuses("run.other-settings", {"layer": ("last", None)}):  # a setting that there is no more
        is_finished(run, "corpus", StageSettings(same, same, {}))
    for now in (StageSettings(SETTINGS), settings({"clip": None, "layer": "last"})):
        with refuses("run.other-settings", {"clip": (0.5, None)}):
            is_finished(run, "corpus", now)


def test_a_part_of_an_epoch_is_told_from_a_number_of_batches() -> None:
    parts = {"limit_train_batches": 1.0, "limit_val_batches": 1, "limit_test_batches": None, "limit_predict_batches": 8}
    assert [*flat_settings(parts).values()] == [1.0, "1 batch", 1.0, "8 batches"]


def test_nothing_is_deleted_when_settings_have_changed(run: RunDir) -> None:
    finish(run)
    before = {file.name: file.read_bytes() for file in run.stage_dir("corpus").iterdir()}
    with pytest.raises(StaleStageError):
        finish(run, seed=7.0)
    assert {file.name: file.read_bytes() for file in run.stage_dir("corpus").iterdir()} == before


def test_a_stage_waits_for_those_it_reads(run: RunDir) -> None:
    with refuses("run.missing", "run"):
        finish(run, "embedding")
    assert not run.path.exists()
    run.path.mkdir()
    with refuses("run.stage-missing", "corpus"):
        finish(run, "embedding")
    finish(run)
    assert finish(run, "embedding") is True


def test_a_stage_is_stale_when_what_it_reads_was_made_again(run: RunDir) -> None:
    finish(run)
    finish(run, "embedding")
    run.record_file("corpus").unlink()
    finish(run, seed=7.0)
    with refuses("run.other-inputs", ["corpus"]):
        finish(run, "embedding")


def test_a_stage_made_again_in_the_same_way_leaves_the_later_ones_fresh(run: RunDir) -> None:
    finish(run)
    finish(run, "embedding")
    run.record_file("corpus").unlink()
    finish(run)
    assert finish(run, "embedding") is False


def test_a_fault_leaves_the_stage_begun_and_the_next_run_goes_on(run: RunDir) -> None:
    with pytest.raises(ZeroDivisionError), recorded_stage(run, "corpus", settings()):
        raise ZeroDivisionError
    assert not run.record_file("corpus").exists()
    assert is_finished(run, "corpus", settings()) is False
    with refuses("run.other-settings", {"seed": (42.0, 7.0)}):
        finish(run, seed=7.0)
    assert finish(run) is True
    assert is_finished(run, "corpus", settings()) is True


def test_a_stage_that_refuses_its_input_has_not_begun(run: RunDir) -> None:
    with pytest.raises(InputError), recorded_stage(run, "corpus", settings()):
        raise InputError("file.missing", "no such thing")
    assert finish(run, seed=7.0) is True


def test_a_killed_process_leaves_the_stage_begun(run: RunDir) -> None:
    script = (
        "import os, sys; from pathlib import Path; from moe_lightning.run.folder import RunDir;"
        "from moe_lightning.run.record import recorded_stage;"
        "from moe_lightning.settings.comparison import StageSettings\n"
        "with recorded_stage(RunDir(Path(sys.argv[1])), 'corpus', StageSettings({'seed': 42.0, 'batch_size': 4.0})):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(run.path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not run.record_file("corpus").exists()
    assert finish(run) is True


def test_only_the_first_rank_keeps_the_record(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with recorded_stage(run, "corpus", settings()) as has_work:
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
    flags = ["--model.alpha", "4", "--config", str(files[0]), "--config", str(files[1])]
    expected = {"model.rank": 8.0, "model.alpha": 4.0, "seed_everything": 1.0}
    assert command_settings(flags) == expected
    assert command_settings(["fit", *flags]) == {**expected, "model.alpha": 32.0}, "to LightningCLI the last one wins"


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


@pytest.mark.parametrize("knobs", [5, "seed", [["seed"]], {"seed": 1}, [None]])
def test_a_record_whose_knobs_are_no_names_is_refused_in_one_line(run: RunDir, knobs: object) -> None:
    finish(run)
    file = run.record_file("corpus")
    file.write_text(json.dumps({**json.loads(file.read_text()), "knobs": knobs}))
    with refuses("file.malformed", "knobs"):
        is_finished(run, "corpus", StageSettings({**SETTINGS, "seed": 7.0}))
