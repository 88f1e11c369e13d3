"""Stages refuse what does not fit them, or each other, in one line, and leave nothing half-written."""

import json
import shutil
from pathlib import Path

import pytest

from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import num_cuda_devices
from moe_lightning.run.stages import STAGES
from tests.refusals import Refusals, fit_arguments, refused_process


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)


@pytest.fixture
def own_run(clustered_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the run that is clustered, to spoil."""
    return RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))


# the command line of the trained stages


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.hiden_dim", "3"], "--model.hiden_dim"),
        (["--model.hidden_dim", "wide"], "model.hidden_dim"),
        (["--trainer.precision", "17"], "trainer.precision"),
        (["--model.num_experts", "3"], "num_experts"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_on_a_stages_command_line_is_one_line(
    flags: list[str], words: str, refused: Refusals, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    assert words in refused("gating.__main__", *fit_arguments(run, "gating", "v2", *flags))
    assert not run.path.exists()


def test_a_mistake_on_a_stages_command_line_is_one_line_of_a_real_process(tmp_path: Path) -> None:
    command = ["moe_lightning.gating", "fit", "--run_dir", tmp_path / "run", "--model.hiden_dim", "3"]
    assert "hiden_dim" in refused_process(*command)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("line", "words"), [("model: {rnak: 8}", "rnak"), ("model: [1", "own.yaml")])
def test_a_mistake_in_a_stages_config_is_one_line(line: str, words: str, refused: Refusals, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(line)
    assert words in refused("experts.__main__", "fit", "--config", config)


@pytest.mark.parametrize(
    ("stage", "flags", "words"),
    [
        ("experts", ["--model.rank", "0"], "rank"),
        ("experts", ["--model.dropout", "1.5"], "dropout must be in [0, 1), got 1.5"),
        ("experts", ["--model.target_modules", "[z_proj]"], "no linear layer named z_proj"),
        ("experts", ["--model.top_k", "0"], "top_k must be at least 1, got 0"),
        ("experts", ["--model.window", "0"], "window must be auto, real, or seconds"),
        ("experts", ["--model.window", "31"], "window must be auto, real, or seconds"),
        ("experts", ["--data.percent", "0"], "percent must be in (0, 100], got 0"),
        ("experts", ["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        ("gating", ["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        ("gating", ["--model.hidden_dim", "0"], "hidden_dim must be at least 1, got 0"),
        ("gating", ["--trainer.accelerator", "gpu"], "gpu"),
        ("gating", ["--trainer.devices", "0"], "devices"),
        ("gating", ["--trainer.devices", "999", "--trainer.accelerator", "cpu"], "devices 999 on a CPU"),
        ("gating", ["--trainer.strategy", "magic"], "magic"),
        ("gating", ["--data.soft_labels_file", "nowhere.json"], "nowhere.json is missing"),
    ],
)
def test_a_value_out_of_range_is_named_when_a_stage_starts(
    stage: str, flags: list[str], words: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    if words == "gpu" and num_cuda_devices():
        pytest.skip("this machine has a GPU")
    assert words in refused(
        f"{stage}.__main__", *fit_arguments(own_run, stage, tiny_whisper, "--data.num_workers", "0", *flags)
    )
    assert not own_run.record_file(stage).exists()  # type: ignore[arg-type]


# stages against each other


def test_fewer_utterances_than_experts_is_refused(refused: Refusals, own_run: RunDir, tmp_path: Path) -> None:
    (store,) = own_run.embedding_dirs()
    flags = ["--algorithm", "spectral", "--num-experts", "25", "--plot", "none"]
    line = refused("clustering.__main__", "--embedding-dir", store, "--output-dir", tmp_path / "out", *flags)
    assert "24 utterances" in line
    assert "--num-experts 25" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["gating", "experts"])
def test_embeddings_of_another_model_than_the_one_asked_for_are_refused(
    stage: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    line = refused(f"{stage}.__main__", *fit_arguments(own_run, stage, "v3"))
    assert f"the embeddings are of the model {str(tiny_whisper)!r}, the model asked for is 'v3'" in line
    assert "moe-lightning embed --whisper-model v3" in line
    assert not own_run.stage_dir(stage).exists()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "17"], "17"),
        (["--devices", "many"], "many"),
        (["--devices", "999", "--accelerator", "cpu"], "devices 999 on a CPU"),
        (["--strategy", "magic"], "magic"),
        (["--accelerator", "abacus"], "abacus"),
        (["--num-workers", "-1"], "--num-workers must be at least 0, got -1"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--max-seconds", "0"], "--max-seconds must be over 0, got 0"),
    ],
)
def test_a_device_precision_or_number_that_there_is_none_of_is_named(
    flags: list[str], words: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    shutil.rmtree(own_run.stage_dir("embedding"))
    assert words in refused("embedding.__main__", "--run-dir", own_run.path, "--whisper-model", tiny_whisper, *flags)
    assert not list(own_run.stage_dir("embedding").iterdir())


def test_a_model_that_cannot_be_loaded_is_named_and_the_stage_stays_unbegun(
    refused: Refusals, own_run: RunDir, tmp_path: Path
) -> None:
    shutil.rmtree(own_run.stage_dir("embedding"))
    line = refused("embedding.__main__", "--run-dir", own_run.path, "--whisper-model", tmp_path / "none")
    assert "cannot load the speech model" in line
    assert not own_run.stage_dir("embedding").exists() or not list(own_run.stage_dir("embedding").iterdir())


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_whose_inputs_have_not_finished_names_what_to_run(
    stage: str, refused: Refusals, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    store, output = run.embedding_dir("v2"), run.stage_dir("clustering")
    arguments = {
        "embedding": ["--run-dir", run.path, "--whisper-model", tiny_whisper],
        "clustering": ["--embedding-dir", store, "--output-dir", output],
        "evaluation": ["--run-dir", run.path],
    }.get(stage) or fit_arguments(run, stage, tiny_whisper)
    line = refused(f"{stage}.__main__", *arguments)
    assert "run `" in line or "run it first" in line
    assert not run.path.exists()


def test_a_stage_that_has_begun_and_not_finished_does_not_feed_the_next(
    refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    own_run.record_file("clustering").rename(own_run.stage_dir("clustering") / "stage.json.begun")
    line = refused("gating.__main__", *fit_arguments(own_run, "gating", tiny_whisper))
    assert "the stage clustering of this run has not finished" in line
    assert not own_run.stage_dir("gating").exists()


# a run made with other settings


def test_a_stage_made_with_other_settings_names_the_setting_and_both_values(
    refused: Refusals, own_run: RunDir, tiny_corpus: Path
) -> None:
    before = own_run.record_file("corpus").read_bytes()
    line = refused("corpus.__main__", "--dataset-root", tiny_corpus, "--run-dir", own_run.path, "--seed", "7")
    assert "the stage corpus" in line
    assert "seed was 42, now 7" in line
    assert "--run-dir" in line
    assert own_run.record_file("corpus").read_bytes() == before


def test_a_trained_stage_made_with_other_settings_is_refused(
    refused: Refusals, pretrained_run: Path, tiny_whisper: Path
) -> None:
    run = RunDir(pretrained_run)
    flags = ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    line = refused("experts.__main__", *fit_arguments(run, "experts", tiny_whisper, *flags, "--model.alpha", "8"))
    assert "the stage experts" in line
    assert "model.alpha was 32, now 8" in line


def test_the_pipeline_names_what_changed_since_the_run_was_made(
    refused: Refusals, own_run: RunDir, tiny_corpus: Path, tiny_whisper: Path
) -> None:
    command = ["--run-dir", own_run.path, "--dataset-root", tiny_corpus, "--whisper-model", tiny_whisper, "--no-fp16"]
    line = refused("run.pipeline", *command, "--seed", "7")
    assert "seed was 42, now 7" in line
    assert not own_run.log_file.exists()


def test_a_stage_made_from_an_input_that_has_changed_is_refused(
    refused: Refusals, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    record = json.loads(run.record_file("clustering").read_text())
    run.record_file("clustering").write_text(json.dumps({**record, "hash": "another"}))
    line = refused("gating.__main__", *fit_arguments(run, "gating", tiny_whisper, "--trainer.max_epochs", "2"))
    assert "was made from another clustering" in line


# files of a run that are broken


@pytest.mark.parametrize("contents", ["", "[]", "{", '[{"id": "a"}]', '[{"id": "a", "probs": [0.5, 0.1]}]'])
def test_soft_labels_that_are_broken_are_refused(
    contents: str, refused: Refusals, own_run: RunDir, tiny_whisper: Path
) -> None:
    (file,) = own_run.all_soft_labels_files()
    file.write_text(contents)
    line = refused("gating.__main__", *fit_arguments(own_run, "gating", tiny_whisper))
    assert file.name in line or "'a'" in line


def test_a_record_that_is_broken_is_refused(refused: Refusals, own_run: RunDir, tiny_corpus: Path) -> None:
    own_run.record_file("corpus").write_text("{")
    line = refused("corpus.__main__", "--dataset-root", tiny_corpus, "--run-dir", own_run.path)
    assert str(own_run.record_file("corpus")) in line


# transcribing


def test_transcribing_a_file_that_is_not_there_names_it(refused: Refusals, tmp_path: Path) -> None:
    line = refused("inference.__main__", tmp_path / "none.wav", "--run-dir", tmp_path)
    assert str(tmp_path / "none.wav") in line


def test_transcribing_with_a_run_that_is_not_finished_says_what_to_run(
    refused: Refusals, own_run: RunDir, tiny_corpus: Path
) -> None:
    line = refused("inference.__main__", tiny_corpus / "test_0.wav", "--run-dir", own_run.path)
    assert "run `moe-lightning pipeline` first" in line
