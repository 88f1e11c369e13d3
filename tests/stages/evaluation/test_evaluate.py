"""The command on a run that was really trained."""

import json
import shutil
from pathlib import Path

import jiwer
import pytest

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.normaliser import Normaliser
from moe_lightning.evaluation.__main__ import main
from moe_lightning.evaluation.hypotheses import read_hypotheses
from moe_lightning.run.folder import RunDir


def test_every_test_utterance_is_decoded_by_both_systems(evaluated_run: RunDir) -> None:
    rows = [json.loads(line) for line in evaluated_run.hypotheses_file.read_text().splitlines()]
    test = {utterance.id: utterance.text for utterance in read_manifest(evaluated_run.manifest_file("test"))}
    assert {row["id"]: row["reference"] for row in rows} == test
    assert all({"backbone", "mixture", "expert"} <= row.keys() for row in rows)


def test_the_results_are_what_jiwer_says_of_the_hypotheses(evaluated_run: RunDir) -> None:
    results = json.loads(evaluated_run.results_file.read_text())
    rows = [json.loads(line) for line in evaluated_run.hypotheses_file.read_text().splitlines()]
    references = [Normaliser()(row["reference"], row["language"]) for row in rows]
    for system in ("backbone", "mixture"):
        hypotheses = [Normaliser()(row[system], row["language"]) for row in rows]
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
        assert best["test"][system]["rate"] == results["systems"][system]["rate"]


def test_every_rate_has_its_interval_and_every_comparison_its_probability(evaluated_run: RunDir) -> None:
    results = json.loads(evaluated_run.results_file.read_text())
    for system in results["systems"].values():
        assert system["interval"][0] <= system["rate"] <= system["interval"][1]
        assert {"cluster", "expert", "accent"} <= system["groups"].keys()
        assert system["real_time_factor"] > 0
    backbone, mixture = (results["systems"][name]["trained_parameters"] for name in ("backbone", "mixture"))
    assert mixture > backbone == 0
    comparison = results["comparisons"]["mixture vs backbone"]
    assert {"relative_improvement", "interval", "probability_better", "groups"} <= comparison.keys()
    assert results["verdict"]["sentence"]
    assert results["environment"]["stages"]["experts"]["settings"]["model.rank"] == 16
    assert results["environment"]["seed"] == 42


def test_the_alignments_spell_what_was_said_and_written(evaluated_run: RunDir) -> None:
    for line in evaluated_run.hypotheses_file.read_text().splitlines():
        row = json.loads(line)
        assert sum(row["gate"]) == pytest.approx(1, abs=1e-3)
        for system in ("backbone", "mixture"):
            pairs = row["alignments"][system]
            reference, text = (Normaliser().units(row[name], row["language"]) for name in ("reference", system))
            assert " ".join(said for kind, said, _ in pairs if kind != "I") == reference
            assert " ".join(written for kind, _, written in pairs if kind != "D") == text


def test_scoring_again_decodes_nothing_and_takes_other_settings(
    finished_run: Path, evaluated_run: RunDir, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))
    run.mixture_file.unlink()
    main(["--run-dir", str(run.path), "--rescore", "--by", "duration slot", "--num-resamples", "200", "--seed", "1"])
    before, after = (json.loads(one.results_file.read_text()) for one in (evaluated_run, run))
    assert after["systems"]["mixture"]["wer"] == before["systems"]["mixture"]["wer"]
    assert set(after["systems"]["mixture"]["groups"]) == {"cluster", "expert", "duration slot"}
    assert after["bootstrap"]["num_resamples"] == 200
    main(["--run-dir", str(run.path), "--rescore", "--num-resamples", "200", "--normaliser", "english"])
    for row in map(json.loads, run.hypotheses_file.read_text().splitlines()):
        pairs = row["alignments"]["mixture"]
        said = " ".join(said for kind, said, _ in pairs if kind != "I")
        assert said == Normaliser("english")(row["reference"], row["language"])
    assert after["systems"]["mixture"]["real_time_factor"] == before["systems"]["mixture"]["real_time_factor"]


def test_the_dev_split_is_scored_as_often_as_one_likes_beside_the_test_split(
    evaluated_run: RunDir, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))
    before = run.results_file.read_bytes(), run.best_file.read_bytes()
    for resamples in ("200", "300"):
        main(["--run-dir", str(run.path), "--num-workers", "0", "--split", "dev", "--num-resamples", resamples])
    assert (run.results_file.read_bytes(), run.best_file.read_bytes()) == before
    results = json.loads(run.report("dev").results_file.read_text())
    assert (results["split"], results["bootstrap"]["num_resamples"]) == ("dev", 300)
    rows = [json.loads(line) for line in run.report("dev").hypotheses_file.read_text().splitlines()]
    assert {row["id"] for row in rows} == {one.id for one in read_manifest(run.manifest_file("dev"))}


def test_a_second_evaluation_has_nothing_to_do(evaluated_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = evaluated_run.results_file.stat().st_mtime_ns
    own = ["--run-dir", str(evaluated_run.path), "--num-workers", "0", "--accelerator", "cpu", "--no-guard"]
    main([*own, "--batch-size", "3"])
    assert "nothing to do" in capsys.readouterr().out
    assert evaluated_run.results_file.stat().st_mtime_ns == before


def test_another_batch_size_gives_the_same_scores(evaluated_run: RunDir, finished_run: Path, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    own = ["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu", "--no-guard"]
    main([*own, "--batch-size", "1"])
    one, other = (json.loads(one.results_file.read_text()) for one in (run, evaluated_run))
    assert one["experts"] == other["experts"]
    for system in ("backbone", "mixture"):
        assert one["systems"][system]["words"] == other["systems"][system]["words"]


def test_what_the_guard_finds_is_counted_by_system(
    finished_run: Path, evaluated_run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tones are no speech; the unguarded evaluation has looked for nothing."""
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu", "--num-resamples", "100"])
    results, unguarded = (json.loads(one.results_file.read_text()) for one in (run, evaluated_run))
    assert (results["decoding"]["guard"], unguarded["decoding"]["guard"]) == (True, False)
    rows = read_hypotheses(run.report("test"))
    num_silenced = sum("backbone" in row["silenced"] for row in rows)
    assert num_silenced > 0
    for name in ("backbone", "mixture"):
        system = results["systems"][name]
        assert (system["loops"], system["silenced"]) == tuple(
            sum(name in row[kind] for row in rows) for kind in ("looped", "silenced")
        )
        assert all(row[name] == "" for row in rows if name in row["silenced"])
        assert not {"loops", "silenced"} & unguarded["systems"][name].keys()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.lstrip("│ ").startswith("silenced")]
    counts = [results["systems"][name]["silenced"] for name in ("backbone", "mixture")]
    assert [int(cell) for cell in line.replace("│", " ").split() if cell.isdecimal()] == counts
    main(["--run-dir", str(run.path), "--rescore", "--num-resamples", "100"])
    again = json.loads(run.results_file.read_text())
    assert again["systems"]["mixture"]["silenced"] == results["systems"]["mixture"]["silenced"]


def test_the_results_say_by_which_routing_the_mixture_was_decoded(finished_run: Path, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    command = ["--run-dir", str(run.path), "--split", "dev", "--num-workers", "0", "--num-resamples", "100"]
    for flags, routing in (([], "top_k"), (["--routing", "posterior"], "posterior")):
        main([*command, *flags])
        assert json.loads(run.report("dev").results_file.read_text())["decoding"]["routing"] == routing


def test_a_precision_of_half_the_bits_decodes_on_a_cpu_too(evaluated_run: RunDir, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))
    quick = ["--run-dir", str(run.path), "--split", "dev", "--num-workers", "0", "--accelerator", "cpu"]
    main([*quick, "--precision", "bf16-mixed"])
    dev = {utterance.id for utterance in read_manifest(run.manifest_file("dev"))}
    rows = [json.loads(line) for line in run.report("dev").hypotheses_file.read_text().splitlines()]
    assert {row["id"] for row in rows} == dev


def test_the_bare_backbone_reads_its_own_window_whatever_the_mixture_reads(
    evaluated_run: RunDir, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))
    quick = ["--run-dir", str(run.path), "--split", "dev", "--num-workers", "0", "--accelerator", "cpu"]
    main([*quick, "--window", "2"])
    results = json.loads(run.report("dev").results_file.read_text())
    assert (results["systems"]["backbone"]["window"], results["systems"]["mixture"]["window"]) == (0.0, 2.0)
    assert results["decoding"]["own_window"] == 0.0
