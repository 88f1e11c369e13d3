"""Bad corpora, flags and configs end in one line that names them and the rule, and nothing half-written."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import num_cuda_devices
from tests.refusals import Refusals, refused_process


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)


@pytest.fixture
def own_corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the tiny corpus, to spoil."""
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


# the corpus


def test_a_missing_dataset_root_is_named(refused: Refusals, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = refused("run.pipeline", "--dataset-root", tmp_path / "nowhere", "--run-dir", run)
    assert f"--dataset-root {tmp_path / 'nowhere'} does not exist" in line
    assert not run.exists()


def test_the_pipeline_as_a_process_names_a_missing_dataset_root(tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = refused_process(
        "moe_lightning", "pipeline", "--dataset-root", tmp_path / "nowhere", "--run-dir", run, "--no-fp16"
    )
    assert "does not exist" in line
    assert not run.exists()


def test_an_empty_folder_is_no_corpus(refused: Refusals, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("corpus.__main__", "--dataset-root", tmp_path / "empty", "--run-dir", tmp_path / "run")
    assert str(tmp_path / "empty") in line
    assert not (tmp_path / "run").exists()


def test_a_manifest_without_a_line_is_an_empty_corpus(refused: Refusals, own_corpus: Path, tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (own_corpus / f"{split}.jsonl").write_text("\n")
    line = refused("corpus.__main__", "--dataset-root", own_corpus, "--run-dir", tmp_path / "run")
    assert str(own_corpus) in line
    assert not (tmp_path / "run").exists()


def test_a_line_that_is_no_json_is_named_by_file_and_number(
    refused: Refusals, own_corpus: Path, tmp_path: Path
) -> None:
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
    fault: str, refused: Refusals, own_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
        (["--set", "moe.model.rotuing=merge"], "--set, stage moe: unrecognized arguments: --model.rotuing merge"),
        (["--set", "evaluation.num-beans=2"], "unrecognized arguments: --num-beans 2"),
        (["--set", "rank"], "--set takes STAGE.OPTION=VALUE"),
        (["--config", "nowhere.yaml"], "nowhere.yaml is missing"),
        (["--data-percent", "0"], "--data-percent"),
        (["--data-percent", "101"], "--data-percent"),
    ],
)
def test_a_flag_or_value_that_the_pipeline_does_not_know_is_refused_before_anything_runs(
    flags: list[str], words: str, refused: Refusals, tiny_corpus: Path, tmp_path: Path
) -> None:
    line = refused("run.pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", "--no-fp16", *flags)
    assert words in line
    assert not (tmp_path / "run").exists()


def test_a_misspelt_command_of_the_experts_is_told_all_that_there_are(refused: Refusals) -> None:
    line = refused("experts.__main__", "ad", "--run-dir", "nowhere")
    assert (
        line
        == "error: 'ad' is no command of the experts; there are fit, validate, add, drop, merge, join [setting.unknown]"
    )


@pytest.mark.skipif(num_cuda_devices() > 0, reason="this machine has a GPU")
def test_fp16_without_a_gpu_is_refused(refused: Refusals, tiny_corpus: Path, tmp_path: Path) -> None:
    line = refused("run.pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", "--fp16")
    assert "--fp16 needs a CUDA GPU" in line
    assert not (tmp_path / "run").exists()


def test_fp16_on_a_run_that_is_sent_to_the_cpu_is_refused(refused: Refusals, tiny_corpus: Path, tmp_path: Path) -> None:
    flags = ["--fp16", "--accelerator", "cpu"]
    assert "--fp16" in refused("run.pipeline", "--dataset-root", tiny_corpus, "--run-dir", tmp_path / "run", *flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1, 2", "is no YAML"), ("- 1\n- 2\n", "must be a mapping"), ("", "must be a mapping")],
)
def test_a_malformed_config_is_named(text: str, words: str, refused: Refusals, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(text)
    line = refused("run.pipeline", "--config", config)
    assert str(config) in line
    assert words in line


def test_a_config_that_is_a_folder_is_named(refused: Refusals, tmp_path: Path) -> None:
    assert str(tmp_path) in refused("run.pipeline", "--config", tmp_path)


def test_a_word_that_is_no_command_is_refused() -> None:
    assert "'trane' is no command; there are pipeline, corpus" in refused_process("moe_lightning", "trane")


@pytest.mark.parametrize("module", ["corpus", "embedding", "clustering", "evaluation", "inference"])
def test_every_command_refuses_a_flag_it_does_not_know(module: str, refused: Refusals, tmp_path: Path) -> None:
    needed = {
        "clustering": ["--embedding-dir", tmp_path, "--output-dir", tmp_path / "out"],
        "inference": ["a.wav"],
    }.get(module, ["--run-dir", tmp_path / "run"])
    assert "unrecognized arguments: --nonsense" in refused(f"{module}.__main__", *needed, "--nonsense")
    assert not (tmp_path / "run").exists()
