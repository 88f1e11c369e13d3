"""The command on a run that was really trained."""

import json
import shutil
from pathlib import Path

import jiwer
import pytest

from moe_lightning.backbone.normaliser import normalise
from moe_lightning.corpus import read_manifest
from moe_lightning.evaluation.__main__ import main
from moe_lightning.run_dir import RunDir


@pytest.fixture(scope="module")
def evaluated_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("evaluated") / "run")))
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu"])
    return run


def test_every_test_utterance_is_decoded_by_both_systems(evaluated_run: RunDir) -> None:
    rows = [json.loads(line) for line in evaluated_run.hypotheses_file.read_text().splitlines()]
    test = {utterance.id: utterance.text for utterance in read_manifest(evaluated_run.manifest_file("test"))}
    assert {row["id"]: row["reference"] for row in rows} == test
    assert all({"backbone", "mixture", "expert"} <= row.keys() for row in rows)


def test_the_results_are_what_jiwer_says_of_the_hypotheses(evaluated_run: RunDir) -> None:
    results = json.loads(evaluated_run.results_file.read_text())
    rows = [json.loads(line) for line in evaluated_run.hypotheses_file.read_text().splitlines()]
    references = [normalise(row["reference"]) for row in rows]
    for system in ("backbone", "mixture"):
        hypotheses = [normalise(row[system]) for row in rows]
        scores = results["systems"][system]
        assert scores["wer"] == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-6)
        assert scores["cer"] == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-6)
        for field in ("cluster", "accent"):
            for group in scores["groups"][field].values():
                assert {"wer", "words"} <= group.keys()


def test_the_usage_is_a_share_of_every_expert_and_sums_to_1(evaluated_run: RunDir) -> None:
    usage = json.loads(evaluated_run.results_file.read_text())["experts"]["usage"]
    assert len(usage) == 2
    assert sum(usage) == pytest.approx(1)


def test_the_scores_are_added_to_the_joint_stages_best_json(evaluated_run: RunDir) -> None:
    best = json.loads(evaluated_run.best_file.read_text())
    results = json.loads(evaluated_run.results_file.read_text())
    assert best["steps"] > 0
    for system in ("backbone", "mixture"):
        assert best["test"][system]["wer"] == results["systems"][system]["wer"]


def test_a_second_evaluation_has_nothing_to_do(evaluated_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = evaluated_run.results_file.stat().st_mtime_ns
    main(["--run-dir", str(evaluated_run.path), "--num-workers", "0", "--accelerator", "cpu", "--batch-size", "3"])
    assert "nothing to do" in capsys.readouterr().out
    assert evaluated_run.results_file.stat().st_mtime_ns == before


def test_another_batch_size_gives_the_same_scores(evaluated_run: RunDir, finished_run: Path, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu", "--batch-size", "1"])
    one, other = (json.loads(one.results_file.read_text()) for one in (run, evaluated_run))
    assert one["experts"] == other["experts"]
    for system in ("backbone", "mixture"):
        assert one["systems"][system]["words"] == other["systems"][system]["words"]
