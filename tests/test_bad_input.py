"""Bad input ends in one line that names the file or value and the rule, exit code 2, and nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from moe_lightning.pipeline import num_cuda_devices
from moe_lightning.run_dir import STAGES, RunDir

ROOT = Path(__file__).parents[1]
Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command of a module in this process and gives the one line that it ends with."""

    def run(module: str, *arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            import_module(f"moe_lightning.{module}").main([str(argument) for argument in arguments])
        return only_line(ended.value.code, capsys.readouterr().err)

    return run


def only_line(code: object, stderr: str) -> str:
    """The complaint, after checking that there is one, of one line, and nothing like a traceback."""
    assert code == 2, stderr
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Seed set to")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in stderr
    return lines[0]


def refused_process(*command: object) -> str:
    """The same of a real process, as it is typed."""
    words = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return only_line(done.returncode, done.stderr)


@pytest.fixture
def own_corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the tiny corpus, to spoil."""
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


@pytest.fixture
def own_run(clustered_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the run that is clustered, to spoil."""
    return RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))


def fit(run: RunDir, stage: str, model: object, *flags: object) -> list[object]:
    """Arguments of a trained stage's command."""
    command = ["fit", "--config", ROOT / "configs" / f"{stage}.yaml", "--run_dir", run.path]
    command += ["--model.whisper_model", model, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    return [*command, "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", *flags]


# the corpus


def test_a_missing_dataset_root_is_named(refused: Refused, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = refused("pipeline", "--dataset-root", tmp_path / "nowhere", "--run-dir", run)
    assert f"--dataset-root {tmp_path / 'nowhere'} does not exist" in line
    assert not run.exists()


def test_the_pipeline_as_a_process_names_a_missing_dataset_root(tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = refused_process(
        "moe_lightning", "pipeline", "--dataset-root", tmp_path / "nowhere", "--run-dir", run, "--no-fp16"
    )
    assert "does not exist" in line
    assert not run.exists()


def test_an_empty_folder_is_no_corpus(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("corpus.__main__", "--dataset-root", tmp_path / "empty", "--run-dir", tmp_path / "run")
    assert str(tmp_path / "empty") in line
    assert not (tmp_path / "run").exists()


def test_a_manifest_without_a_line_is_an_empty_corpus(refused: Refused, own_corpus: Path, tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (own_corpus / f"{split}.jsonl").write_text("\n")
    line = refused("corpus.__main__", "--dataset-root", own_corpus, "--run-dir", tmp_path / "run")
    assert str(own_corpus) in line
    assert not (tmp_path / "run").exists()


def test_a_line_that_is_no_json_is_named_by_file_and_number(refused: Refused, own_corpus: Path, tmp_path: Path) -> None:
    with (own_corpus / "train.jsonl").open("a") as manifest:
        manifest.write('{"audio_filepath": "train_0.wav", "text": \n')
    line = refused("corpus.__main__", "--dataset-root", own_corpus, "--run-dir", tmp_path / "run")
    assert "train.jsonl, line 25 is not JSON" in line
    assert not (tmp_path / "run").exists()


def spoil(corpus: Path, fault: str) -> None:
    """Make the first recording of the train split faulty, or its transcript empty."""
    audio_file = corpus / "train_0.wav"
    if fault == "missing":
        audio_file.unlink()
    elif fault == "unreadable":
        audio_file.write_bytes(b"RIFF and then nothing of the kind" * 40)
    elif fault == "0 bytes":
        audio_file.write_bytes(b"")
    elif fault == "no samples":
        soundfile.write(audio_file, np.zeros(0), 16_000)
    else:
        manifest = corpus / "train.jsonl"
        first, *rest = manifest.read_text().splitlines()
        manifest.write_text("\n".join([json.dumps({**json.loads(first), "text": "  "}), *rest]) + "\n")


FAULTS = {
    "missing": "does not exist",
    "unreadable": "cannot be read as audio",
    "0 bytes": "is empty",
    "no samples": "holds no samples",
    "no transcript": "has no transcript",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_recording_is_named_and_skipped_only_when_asked(
    fault: str, refused: Refused, own_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(own_corpus, fault)
    run = RunDir(tmp_path / "run")
    corpus = ["--dataset-root", str(own_corpus), "--run-dir", str(run.path)]
    line = refused("corpus.__main__", *corpus)
    assert "train_0" in line or "train.jsonl, line 1" in line
    assert FAULTS[fault] in line
    assert "--skip-bad-audio" in line
    assert not run.path.exists()
    import_module("moe_lightning.corpus.__main__").main([*corpus, "--skip-bad-audio"])
    (left_out,) = json.loads(run.left_out_file.read_text())
    assert left_out["audio_file"].endswith("train_0.wav")
    assert FAULTS[fault] in left_out["reason"]
    assert "left out: 1 faulty" in capsys.readouterr().out


# flags and values


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-expert", "4"], "unrecognized arguments: --num-expert 4"),
        (["--mode", "fast"], "--mode: invalid choice: 'fast'"),
        (["--clustering-algorithm", "kmedoids"], "--clustering-algorithm: invalid choice: 'kmedoids'"),
        (["--pooling", "max"], "--pooling: invalid choice: 'max'"),
        (["--seed", "x"], "--seed: invalid int value: 'x'"),
        (["--reduce-dim"], "--reduce-dim: expected one argument"),
        (["--hdbscan-algorithm", "fastest"], "fastest"),
        (["--num-experts", "0"], "--num-experts must be at least 1, got 0"),
        (["--min-cluster-size", "1"], "--min-cluster-size must be at least 2, got 1"),
        (["--temperature", "-1"], "--temperature must be auto or a number above 0"),
        (["--set", "router.model.rank=8"], "--set router.model.rank: the stage must be one of corpus"),
        (["--set", "rank"], "--set takes STAGE.OPTION=VALUE"),
        (["--config", "nowhere.yaml"], "nowhere.yaml is missing"),
        (["--data-percent", "0"], "--data-percent"),
        (["--data-percent", "101"], "--data-percent"),
    ],
)
def test_a_flag_or_value_that_the_pipeline_does_not_know_is_refused_before_anything_runs(
    flags: list[str], words: str, refused: Refused, tiny_corpus: Path, tmp_path: Path
) -> None:
    line = refused("pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", "--no-fp16", *flags)
    assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(num_cuda_devices() > 0, reason="this machine has a GPU")
def test_fp16_without_a_gpu_is_refused(refused: Refused, tiny_corpus: Path, tmp_path: Path) -> None:
    line = refused("pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", "--fp16")
    assert "--fp16 needs a CUDA GPU" in line
    assert not (tmp_path / "run").exists()


def test_fp16_on_a_run_that_is_sent_to_the_cpu_is_refused(refused: Refused, tiny_corpus: Path, tmp_path: Path) -> None:
    flags = ["--fp16", "--accelerator", "cpu"]
    assert "--fp16" in refused("pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", *flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1, 2", "is no YAML"), ("- 1\n- 2\n", "must be a mapping"), ("", "must be a mapping")],
)
def test_a_malformed_config_is_named(text: str, words: str, refused: Refused, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(text)
    line = refused("pipeline", "--config", config)
    assert str(config) in line
    assert words in line


def test_a_config_that_is_a_folder_is_named(refused: Refused, tmp_path: Path) -> None:
    assert str(tmp_path) in refused("pipeline", "--config", tmp_path)


def test_a_word_that_is_no_command_is_refused() -> None:
    assert "'trane' is no command; there are pipeline, corpus" in refused_process("moe_lightning", "trane")


@pytest.mark.parametrize("module", ["corpus", "embedding", "clustering", "evaluation", "inference"])
def test_every_command_refuses_a_flag_it_does_not_know(module: str, refused: Refused, tmp_path: Path) -> None:
    needed = {
        "clustering": ["--embedding-dir", tmp_path, "--output-dir", tmp_path / "out"],
        "inference": ["a.wav"],
    }.get(module, ["--run-dir", tmp_path / "run"])
    assert "unrecognized arguments: --nonsense" in refused(f"{module}.__main__", *needed, "--nonsense")
    assert not (tmp_path / "run").exists()


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
    flags: list[str], words: str, refused: Refused, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    assert words in refused("gating.__main__", *fit(run, "gating", "v2", *flags))
    assert not run.path.exists()


def test_a_mistake_on_a_stages_command_line_is_one_line_of_a_real_process(tmp_path: Path) -> None:
    command = ["moe_lightning.gating", "fit", "--run_dir", tmp_path / "run", "--model.hiden_dim", "3"]
    assert "hiden_dim" in refused_process(*command)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("line", "words"), [("model: {rnak: 8}", "rnak"), ("model: [1", "own.yaml")])
def test_a_mistake_in_a_stages_config_is_one_line(line: str, words: str, refused: Refused, tmp_path: Path) -> None:
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
        ("experts", ["--model.language", "xx"], "knows no language 'xx'"),
        ("experts", ["--data.percent", "0"], "percent must be in (0, 100], got 0"),
        ("experts", ["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        ("gating", ["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        ("gating", ["--model.hidden_dim", "0"], "hidden_dim must be at least 1, got 0"),
        ("gating", ["--trainer.accelerator", "gpu"], "gpu"),
        ("gating", ["--data.soft_labels_file", "nowhere.json"], "nowhere.json is missing"),
    ],
)
def test_a_value_out_of_range_is_named_when_a_stage_starts(
    stage: str, flags: list[str], words: str, refused: Refused, own_run: RunDir, tiny_whisper: Path
) -> None:
    if words == "gpu" and num_cuda_devices():
        pytest.skip("this machine has a GPU")
    assert words in refused(f"{stage}.__main__", *fit(own_run, stage, tiny_whisper, "--data.num_workers", "0", *flags))
    assert not own_run.record_file(stage).exists()  # type: ignore[arg-type]


# stages against each other


def test_fewer_utterances_than_experts_is_refused(refused: Refused, own_run: RunDir, tmp_path: Path) -> None:
    (store,) = own_run.embedding_dirs()
    flags = ["--algorithm", "spectral", "--num-experts", "25", "--plot", "none"]
    line = refused("clustering.__main__", "--embedding-dir", store, "--output-dir", tmp_path / "out", *flags)
    assert "24 utterances" in line
    assert "--num-experts 25" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["gating", "experts"])
def test_embeddings_of_another_model_than_the_one_asked_for_are_refused(
    stage: str, refused: Refused, own_run: RunDir, tiny_whisper: Path
) -> None:
    line = refused(f"{stage}.__main__", *fit(own_run, stage, "v3"))
    assert f"the embeddings are of the model {str(tiny_whisper)!r}, the model asked for is 'v3'" in line
    assert "moe-lightning embed --whisper-model v3" in line
    assert not own_run.stage_dir(stage).exists()  # type: ignore[arg-type]


def test_a_model_that_cannot_be_loaded_is_named_and_the_stage_stays_unbegun(
    refused: Refused, own_run: RunDir, tmp_path: Path
) -> None:
    shutil.rmtree(own_run.stage_dir("embedding"))
    line = refused("embedding.__main__", "--run-dir", own_run.path, "--whisper-model", tmp_path / "none")
    assert "cannot load the speech model" in line
    assert not own_run.stage_dir("embedding").exists() or not list(own_run.stage_dir("embedding").iterdir())


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_whose_inputs_have_not_finished_names_what_to_run(
    stage: str, refused: Refused, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    store, output = run.embedding_dir("v2"), run.stage_dir("clustering")
    arguments = {
        "embedding": ["--run-dir", run.path, "--whisper-model", tiny_whisper],
        "clustering": ["--embedding-dir", store, "--output-dir", output],
        "evaluation": ["--run-dir", run.path],
    }.get(stage) or fit(run, stage, tiny_whisper)
    line = refused(f"{stage}.__main__", *arguments)
    assert "run `" in line or "run it first" in line
    assert not run.path.exists()


def test_a_stage_that_has_begun_and_not_finished_does_not_feed_the_next(
    refused: Refused, own_run: RunDir, tiny_whisper: Path
) -> None:
    own_run.record_file("clustering").rename(own_run.stage_dir("clustering") / "stage.json.begun")
    line = refused("gating.__main__", *fit(own_run, "gating", tiny_whisper))
    assert "the stage clustering of this run has not finished" in line
    assert not own_run.stage_dir("gating").exists()


def test_experts_of_another_rank_are_refused_by_the_joint_stage(
    refused: Refused, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    line = refused("moe.__main__", *fit(run, "moe", tiny_whisper, "--model.rank", "4", "--data.num_workers", "0"))
    assert "rank, shared_rank or num_experts differ" in line
    assert not run.record_file("moe").exists()
    assert not list(run.stage_dir("moe").glob("stage.json*"))


# a run made with other settings


def test_a_stage_made_with_other_settings_names_the_setting_and_both_values(
    refused: Refused, own_run: RunDir, tiny_corpus: Path
) -> None:
    before = own_run.record_file("corpus").read_bytes()
    line = refused("corpus.__main__", "--dataset-root", tiny_corpus, "--run-dir", own_run.path, "--seed", "7")
    assert "the stage corpus" in line
    assert "seed was 42, now 7" in line
    assert "--run-dir" in line
    assert own_run.record_file("corpus").read_bytes() == before


def test_a_trained_stage_made_with_other_settings_is_refused(
    refused: Refused, pretrained_run: Path, tiny_whisper: Path
) -> None:
    run = RunDir(pretrained_run)
    flags = ["--trainer.max_epochs", "1", "--data.num_workers", "0", "--model.max_decoded_batches", "1"]
    line = refused("experts.__main__", *fit(run, "experts", tiny_whisper, *flags, "--model.alpha", "8"))
    assert "the stage experts" in line
    assert "model.alpha was 32, now 8" in line


def test_the_pipeline_names_what_changed_since_the_run_was_made(
    refused: Refused, own_run: RunDir, tiny_corpus: Path, tiny_whisper: Path
) -> None:
    command = ["--run-dir", own_run.path, "--dataset-root", tiny_corpus, "--whisper-model", tiny_whisper, "--no-fp16"]
    line = refused("pipeline", *command, "--seed", "7")
    assert "seed was 42, now 7" in line
    assert not own_run.log_file.exists()


def test_a_stage_made_from_an_input_that_has_changed_is_refused(
    refused: Refused, pretrained_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    record = json.loads(run.record_file("clustering").read_text())
    run.record_file("clustering").write_text(json.dumps({**record, "hash": "another"}))
    line = refused("gating.__main__", *fit(run, "gating", tiny_whisper, "--trainer.max_epochs", "2"))
    assert "was made from another clustering" in line


# files of a run that are broken


@pytest.mark.parametrize("contents", ["", "[]", "{", '[{"id": "a"}]', '[{"id": "a", "probs": [0.5, 0.1]}]'])
def test_soft_labels_that_are_broken_are_refused(
    contents: str, refused: Refused, own_run: RunDir, tiny_whisper: Path
) -> None:
    (file,) = own_run.all_soft_labels_files()
    file.write_text(contents)
    line = refused("gating.__main__", *fit(own_run, "gating", tiny_whisper))
    assert file.name in line or "'a'" in line


def test_a_record_that_is_broken_is_refused(refused: Refused, own_run: RunDir, tiny_corpus: Path) -> None:
    own_run.record_file("corpus").write_text("{")
    line = refused("corpus.__main__", "--dataset-root", tiny_corpus, "--run-dir", own_run.path)
    assert str(own_run.record_file("corpus")) in line


# transcribing


def test_transcribing_a_file_that_is_not_there_names_it(refused: Refused, tmp_path: Path) -> None:
    line = refused("inference.__main__", tmp_path / "none.wav", "--run-dir", tmp_path)
    assert str(tmp_path / "none.wav") in line


def test_transcribing_with_a_run_that_is_not_finished_says_what_to_run(
    refused: Refused, own_run: RunDir, tiny_corpus: Path
) -> None:
    line = refused("inference.__main__", tiny_corpus / "test_0.wav", "--run-dir", own_run.path)
    assert "run `moe-lightning pipeline` first" in line


def test_the_yaml_of_a_bad_run_is_still_yaml() -> None:
    """The shipped files that these tests overlay are themselves in order."""
    assert yaml.safe_load((ROOT / "configs" / "moe.yaml").read_text())["model"]["rank"] == 16
