"""The command as its users run it: real processes, stages that two systems share made once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moe_lightning.evaluation.ladder.__main__ import main
from moe_lightning.run.folder import RunDir

SMALL = ["--clustering-algorithm", "kmeans", "--num-experts", "2", "--no-plot", "--num-workers", "0"]
SMALL += ["--gating-batch-size", "16", "--expert-batch-size", "8", "--asr-batch-size", "8", "--accelerator", "cpu"]
SMALL += [f"--set={stage}.trainer.max_epochs=1" for stage in ("gating", "experts", "moe")]


def ladder(path: Path, corpus: Path, model: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moe_lightning", "ladder", "--mode", "full", "--dataset-root", str(corpus)]
    command += ["--whisper-model", str(model), "--run-dir", str(path), *SMALL, "--seeds", "1", "--lr-factors", "1"]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False)


def test_a_ladder_trains_each_system_once_and_compares_them_all(
    tiny_corpus: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    done = ladder(tmp_path / "ladder", tiny_corpus, tiny_whisper, "--rows", "lora_equal")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(RunDir(tmp_path / "ladder").results_file.read_text())
    names = ["backbone", "lora_equal", "uniform", "utterance_gate", "mixture", "best_expert"]
    assert list(results["systems"]) == names
    trained = {name: one["trained_parameters"] for name, one in results["systems"].items()}
    assert trained["backbone"] == 0 < trained["mixture"] <= trained["lora_equal"]
    assert {"mixture vs lora_equal", "mixture vs backbone", "mixture vs best_expert"} <= results["comparisons"].keys()
    assert results["verdict"]["sentence"] in done.stdout
    runs = tmp_path / "ladder" / "runs"
    links = {file.name for file in (runs / "lora_equal" / "lr_x1" / "seed_42").iterdir() if file.is_symlink()}
    assert links == {"corpus", "embeddings"}
    before = {file: file.stat().st_mtime for file in runs.rglob("mixture.safetensors")}
    assert len(before) == 2
    again = ladder(tmp_path / "ladder", tiny_corpus, tiny_whisper, "--rows", "lora_equal")
    assert again.returncode == 0, again.stdout + again.stderr
    assert {file: file.stat().st_mtime for file in runs.rglob("mixture.safetensors")} == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--lr-factors", "-1"], "--lr-factors"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--dry-run"], "--dry-run"),
        (["--rows", "other"], "other"),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_runs(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*flags, "--dataset-root", "demo", "--run-dir", str(tmp_path / "ladder")])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "ladder").exists()


def test_a_run_that_stops_is_named_with_its_output(tmp_path: Path, tiny_whisper: Path) -> None:
    done = ladder(tmp_path / "ladder", tmp_path / "no_corpus", tiny_whisper)
    assert done.returncode == 2
    assert "ladder.log" in done.stderr
    assert "no_corpus" in done.stderr, "its own error is told"
    log = next((tmp_path / "ladder").rglob("ladder.log"))
    assert "no_corpus" in log.read_text()
