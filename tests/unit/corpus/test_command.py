import json

import pytest
import soundfile

from moe_lightning.corpus.__main__ import main
from moe_lightning.data.audio import read_audio
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import SPLITS
from moe_lightning.run.folder import RunDir
from tests.corpora import tone, write_audio, write_rows

SPEAKERS = {"ann": 2, "bob": 2}


def prepare_splits(root, run, *flags):
    """Run the command and read what it wrote."""
    main(["--dataset-root", str(root), "--run-dir", str(run), *flags])
    return {split: read_manifest(RunDir(run).manifest_file(split)) for split in SPLITS}


def refused(capsys, root, run, *flags):
    """The one line of a command that refuses, after checking that it wrote nothing."""
    with pytest.raises(SystemExit) as exit_info:
        main(["--dataset-root", str(root), "--run-dir", str(run), *flags])
    assert exit_info.value.code == 2
    assert not run.exists()
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    return line


def test_a_corpus_becomes_three_manifests_and_a_table(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    splits = prepare_splits(root, tmp_path / "run")
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 4, "dev": 1, "test": 1}
    assert len(read_audio(splits["train"][1])) == 4800
    assert splits["train"][1].duration == pytest.approx(0.3)
    output = capsys.readouterr().out
    assert all(word in output for word in (*SPLITS, "utterances", "speakers", "hours"))
    assert json.loads(RunDir(tmp_path / "run").left_out_file.read_text()) == []


def test_a_second_run_has_nothing_to_do_and_other_settings_are_refused(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    prepare_splits(root, tmp_path / "run")
    before = RunDir(tmp_path / "run").manifest_file("train").stat().st_mtime_ns
    prepare_splits(root, tmp_path / "run")
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        prepare_splits(root, tmp_path / "run", "--seed", "1")
    assert "made with other settings: seed was" in capsys.readouterr().err
    assert RunDir(tmp_path / "run").manifest_file("train").stat().st_mtime_ns == before


def test_recorded_speech_is_read_and_divided(tmp_path, real_corpus):
    splits = prepare_splits(real_corpus / "smoke", tmp_path / "run", "--allow-shared-speakers")
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 54, "dev": 17, "test": 17}
    utterance = splits["train"][0]
    assert {"accent", "domain", "gender", "language"} <= set(utterance.fields)
    assert len(read_audio(utterance)) == pytest.approx(utterance.duration * 16_000, abs=1)


def test_shared_speakers_are_refused_by_name(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train=SPEAKERS, dev={"ann": 1}, test={"joe": 1})
    assert "(ann); --allow-shared-speakers" in refused(capsys, root, tmp_path / "run")
    assert len(prepare_splits(root, tmp_path / "run", "--allow-shared-speakers")["train"]) == 4


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("missing", "does not exist"),
        ("zero bytes", "is empty (0 bytes)"),
        ("no samples", "holds no samples"),
        ("no audio", "cannot be read as audio"),
        ("no transcript", "has no transcript"),
        ("too short", "under 0.02 s"),
        ("wrong duration", "said to lie at 0.00 to 9.00 s"),
        ("late offset", "said to begin at 5.00 s"),
    ],
)
def test_a_faulty_recording_is_named_or_listed_and_left_out(tmp_path, jsonl_corpus, capsys, fault, rule):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    rows = [json.loads(line) for line in (root / "train.jsonl").read_text().splitlines()]
    path = root / rows[2]["audio_filepath"]
    rows[2] |= {"no transcript": {"text": " "}, "wrong duration": {"duration": 9}, "late offset": {"offset": 5}}.get(
        fault, {}
    )
    write_rows(root / "train.jsonl", rows)
    if fault == "missing":
        path.unlink()
    elif fault in ("zero bytes", "no audio"):
        path.write_bytes(b"" if fault == "zero bytes" else b"not audio at all")
    elif fault in ("no samples", "too short"):
        soundfile.write(path, tone(0.0 if fault == "no samples" else 0.01), 16_000)
    line = refused(capsys, root, tmp_path / "run")
    assert "train.jsonl, line 3" in line
    assert rule in line
    assert "--skip-bad-audio" in line
    assert len(prepare_splits(root, tmp_path / "run", "--skip-bad-audio")["train"]) == 3
    assert "left out: 1 faulty" in capsys.readouterr().out
    (left_out,) = json.loads(RunDir(tmp_path / "run").left_out_file.read_text())
    assert left_out["audio_file"] == str(path)
    assert rule in left_out["reason"]


def test_utterances_over_30_seconds_are_left_out_and_listed(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    write_audio(root / "audio/ann/train0.wav", seconds=30.5)
    assert len(prepare_splits(root, tmp_path / "run")["train"]) == 3
    assert "left out: 1 over 30 s" in capsys.readouterr().out


def test_a_split_of_which_nothing_is_left_is_an_error(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    (root / "audio/eve/dev0.wav").unlink()
    assert "no utterance of the dev split can be used" in refused(capsys, root, tmp_path / "run", "--skip-bad-audio")


def test_speakers_who_are_not_named_are_warned_of(tmp_path, capsys):
    names = [f"{folder}/{number}" for folder in "pqrs" for number in range(2)]
    for name in names:
        write_audio(tmp_path / f"{name}.wav", 0.2)
    rows = [{"audio_filepath": f"{name}.wav", "text": "x"} for name in names]
    splits = prepare_splits(write_rows(tmp_path / "all.jsonl", rows), tmp_path / "run")
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 4, "dev": 2, "test": 2}
    assert "warning: 8 of 8 utterances name no speaker; each of their 4 folders" in capsys.readouterr().err


def test_a_handful_and_a_percentage_can_be_asked_for(tmp_path, jsonl_corpus):
    root = jsonl_corpus(train={"ann": 10, "bob": 10}, dev={"eve": 10}, test={"joe": 10})
    for run, flags, sizes in [
        ("quick", ["--max-utterances", "3", "2", "1"], [3, 2, 1]),
        ("half", ["--data-percent", "50"], [10, 5, 5]),
    ]:
        splits = prepare_splits(root, tmp_path / run, *flags)
        assert [len(splits[split]) for split in SPLITS] == sizes


def test_a_handful_of_a_large_corpus_opens_few_recordings(tmp_path, jsonl_corpus, monkeypatch):
    from moe_lightning.corpus import prepare, probe

    opened = []
    read_header = probe.read_header
    monkeypatch.setattr(prepare, "OPEN_ALL", 50)
    monkeypatch.setattr(probe, "read_header", lambda path: opened.append(path) or read_header(path))
    root = jsonl_corpus(train={f"s{number}": 3 for number in range(40)})
    splits = prepare_splits(root, tmp_path / "run", "--max-utterances", "1", "1", "1")
    assert len(opened) == 50
    assert [len(splits[split]) for split in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--data-percent", "0"], "--data-percent must be over 0"),
        (["--max-utterances", "3", "0", "1"], "--max-utterances must be at least 1"),
        (["--max-utterances", "3"], "expected 3 arguments"),
        (["--data-perc", "5"], "unrecognized arguments"),
        (["--seed", "x"], "invalid int value"),
    ],
)
def test_a_wrong_flag_or_value_is_refused(tmp_path, jsonl_corpus, capsys, flags, rule):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    assert rule in refused(capsys, root, tmp_path / "run", *flags)


def test_a_missing_root_is_refused(tmp_path, capsys):
    line = refused(capsys, tmp_path / "none", tmp_path / "run")
    assert line.startswith("error: the corpus ")
    assert "none does not exist" in line


def test_a_number_that_is_none_is_a_gap(tmp_path, jsonl_corpus):
    root = jsonl_corpus(train=SPEAKERS, dev={"eve": 1}, test={"joe": 1})
    rows = [json.loads(line) for line in (root / "train.jsonl").read_text().splitlines()]
    ages = [float("nan"), float("inf"), 31.5, 7]  # as pandas writes a table with gaps
    write_rows(root / "train.jsonl", [{**row, "age": age} for row, age in zip(rows, ages, strict=True)])
    utterances = prepare_splits(root, tmp_path / "run")["train"]
    assert [utterance.fields["age"] for utterance in utterances] == [None, None, 31.5, 7]
