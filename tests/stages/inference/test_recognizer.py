"""The Python interface gives what the command prints, and the gate's decision with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import moe_lightning as ml
from moe_lightning.inference.__main__ import main
from moe_lightning.inference.recognizer import Recognizer
from moe_lightning.run.folder import RunDir
from tests.refusals import refuses


@pytest.fixture(scope="module")
def recognizer(finished_run: Path) -> Recognizer:
    return ml.load(finished_run)


def test_a_loaded_run_writes_what_the_command_prints(
    recognizer: Recognizer, finished_run: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tiny_corpus / f"test_{number}.wav") for number in range(2)]
    main([*files, "--run-dir", str(finished_run), "--no-guard"])
    found = list(recognizer.transcribe_all(files, guard=False))
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [[str(one.audio_file), one.language, one.text] for one in found] == printed
    assert recognizer.transcribe(files[1], guard=False) == found[1]


def test_a_transcript_says_how_the_gate_decided(recognizer: Recognizer, tiny_corpus: Path) -> None:
    found = recognizer.transcribe(tiny_corpus / "test_1.wav", language="English", guard=False)
    assert found.language == "en"
    assert sum(found.gate_probs) == pytest.approx(1, abs=1e-5)
    assert len(found.gate_probs) == recognizer.mixture.config.experts.num_experts
    assert found.expert == max(range(len(found.gate_probs)), key=found.gate_probs.__getitem__)
    assert sum(found.experts.values()) == pytest.approx(1, abs=1e-5)
    assert list(found.experts.values()) == sorted(found.experts.values(), reverse=True)
    assert 0 < found.confidence <= 1


def test_half_precision_ends_where_the_callers_code_begins(finished_run: Path, tiny_corpus: Path) -> None:
    files = [tiny_corpus / f"test_{number}.wav" for number in range(2)]
    for transcript in ml.load(finished_run, precision="bf16-mixed").transcribe_all(files, "en", guard=False):
        assert not torch.is_autocast_enabled("cpu")
        assert transcript.language == "en"


def test_mistakes_are_named_before_anything_is_transcribed(recognizer: Recognizer, tiny_corpus: Path) -> None:
    files = [tiny_corpus / "test_0.wav", tiny_corpus / "nowhere.wav"]
    with refuses("file.missing", "nowhere.wav"):
        recognizer.transcribe_all(files)
    with refuses("language.unknown", "nowherish"):
        recognizer.transcribe(files[0], language="nowherish")
    with refuses("file.missing", "mixture.json"):
        ml.load(tiny_corpus)


def test_labels_embeddings_and_scores_of_a_run_are_there_in_python(evaluated_run: RunDir) -> None:
    run = evaluated_run.path
    labels, store, results = ml.load_labels(run), ml.load_embeddings(str(run)), ml.load_results(run)
    assert set(labels.ids) == set(store.ids)
    assert labels.of(labels.ids).shape == (len(labels.ids), labels.num_experts)
    assert store.of(labels.ids).shape[0] == len(labels.ids)
    written = json.loads(evaluated_run.results_file.read_text())
    assert results.systems["mixture"].wer == written["systems"]["mixture"]["wer"]
    assert results.headline.pair == ("mixture", "backbone")


def test_one_of_several_clusterings_and_stores_can_be_chosen(evaluated_run: RunDir, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "run")))
    (file,), (folder,) = run.all_soft_labels_files(), run.embedding_dirs()
    shutil.copy(file, file.with_name("other_soft.json"))
    shutil.copytree(folder, folder.with_name("whisper_other_embeddings"))
    for load in (ml.load_labels, ml.load_embeddings):
        with refuses("run.several"):
            load(run.path)
    assert ml.load_labels(run.path, file).ids == ml.load_labels(evaluated_run.path).ids
    assert ml.load_embeddings(run.path, folder).ids == ml.load_embeddings(evaluated_run.path).ids


def test_a_run_without_labels_embeddings_or_scores_is_refused_by_its_stage(tiny_corpus: Path, tmp_path: Path) -> None:
    for load in (ml.load_labels, ml.load_embeddings):
        with refuses("run.stage-missing"):
            load(tmp_path)
    for load in (ml.load_labels, ml.load_embeddings, ml.load_results):
        with refuses("run.missing", "nowhere"):
            load(tmp_path / "nowhere")
    with pytest.raises(ml.InputError) as refused:
        ml.load_results(tmp_path, "dev")
    assert refused.value.code == "file.missing"


def test_to_import_the_package_costs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, moe_lightning; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
