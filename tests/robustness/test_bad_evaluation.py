"""What cannot be evaluated is refused in one line that names the command which mends it."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from moe_lightning.data.manifest import read_manifest, write_manifest
from moe_lightning.run.folder import RunDir
from tests.refusals import Refusals


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(capsys)


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> RunDir:
    """A copy of a finished run, to spoil."""
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))


def change_test_split(run: RunDir, **changes: str) -> None:
    """Give the first test utterance another speaker or text."""
    first, *others = read_manifest(run.manifest_file("test"))
    write_manifest([dataclasses.replace(first, **changes), *others], run.manifest_file("test"))


def evaluate(refused: Refusals, run: RunDir, *flags: str) -> str:
    return refused("evaluation.__main__", "--run-dir", run.path, "--num-workers", "0", "--accelerator", "cpu", *flags)


def test_a_test_split_that_shares_speakers_with_training_is_refused(refused: Refusals, own_run: RunDir) -> None:
    speaker = read_manifest(own_run.manifest_file("train"))[0].speaker
    change_test_split(own_run, speaker=speaker)
    line = evaluate(refused, own_run)
    assert f"1 speaker is in both train and test ({speaker})" in line
    assert "`moe-lightning corpus`" in line
    assert not own_run.report().path.exists() or not list(own_run.report().path.iterdir())


def test_speakers_that_the_corpus_was_told_to_share_are_counted(
    own_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    from moe_lightning.evaluation.__main__ import main

    change_test_split(own_run, speaker=read_manifest(own_run.manifest_file("train"))[0].speaker)
    record = json.loads(own_run.record_file("corpus").read_text())
    record["settings"]["allow_shared_speakers"] = True
    own_run.record_file("corpus").write_text(json.dumps(record))
    main(["--run-dir", str(own_run.path), "--num-workers", "0", "--accelerator", "cpu"])
    assert "1 speaker of the test split was heard in training" in capsys.readouterr().out


def test_a_split_without_any_word_is_refused(refused: Refusals, own_run: RunDir) -> None:
    silent = [dataclasses.replace(one, text="...") for one in read_manifest(own_run.manifest_file("test"))]
    write_manifest(silent, own_run.manifest_file("test"))
    assert "`moe-lightning corpus check`" in evaluate(refused, own_run)


def test_a_field_that_is_not_there_is_named_with_those_that_are(refused: Refusals, own_run: RunDir) -> None:
    line = evaluate(refused, own_run, "--by", "accents")
    assert "--by accents: no utterance has such a field; there are accent, " in line
    assert not own_run.report().hypotheses_file.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num-resamples", "1"], "--num-resamples must be at least 100, got 1"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--split", "train"], "--split"),
        (["--normaliser", "none"], "--normaliser"),
    ],
)
def test_a_flag_out_of_its_range_is_refused(flags: list[str], words: str, refused: Refusals, tmp_path: Path) -> None:
    assert words in evaluate(refused, RunDir(tmp_path / "run"), *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [[], ["--split", "dev"], ["--rescore"]])
def test_a_run_without_finished_stages_names_what_to_run(
    flags: list[str], refused: Refusals, pretrained_run: Path
) -> None:
    line = evaluate(refused, RunDir(pretrained_run), *flags)
    assert "the stage moe of this run has not finished; run `python -m moe_lightning.moe`" in line


def test_scoring_again_before_anything_was_decoded_is_refused(refused: Refusals, own_run: RunDir) -> None:
    line = evaluate(refused, own_run, "--rescore")
    assert "hypotheses.jsonl is missing" in line
    assert "run `moe-lightning evaluate`" in line


def test_what_was_decoded_is_scored_with_the_same_settings_or_again_and_only_whole(
    refused: Refusals, own_run: RunDir
) -> None:
    from moe_lightning.evaluation.__main__ import main

    main(["--run-dir", str(own_run.path), "--num-workers", "0", "--accelerator", "cpu"])
    assert "--rescore" in evaluate(refused, own_run, "--num-resamples", "300")
    lines = own_run.hypotheses_file.read_text().splitlines()
    own_run.hypotheses_file.write_text("\n".join(lines[1:]))
    line = evaluate(refused, own_run, "--rescore")
    assert f"differs in 1 of {len(lines)}" in line
    assert json.loads(lines[0])["id"] in line
    for broken in ("{", "", '{"id": "a"}'):
        own_run.hypotheses_file.write_text(broken)
        assert "`moe-lightning evaluate`" in evaluate(refused, own_run, "--rescore")
