"""Languages of a corpus: read by any usual name, given, or detected; never silently English."""

import json
import shutil
from pathlib import Path

import pytest

from moe_lightning.data.languages import language_code
from moe_lightning.data.utterance import Utterance
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import read_split
from tests.refusals import only_line, refuses
from tests.stages.embedding.conftest import embed_and_die
from tests.tones import write_tones
from tests.whisper_models import write_whisper


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("en", "en"), ("en-US", "en"), ("EN", "en"), ("English", "en"), ("eng", "en")),
        *(("fr_FR", "fr"), ("fra", "fr"), ("français", "fr"), ("zh-CN", "zh"), ("cmn", "zh"), ("sv-SE", "sv")),
        *(("zh-HK", "yue"), ("nn-NO", "nn"), ("ca-valencia", "ca"), ("haw", "haw")),
        *(("unknown", None), ("", None), ("und", None)),
        *(("Indian English", "en"), ("hindi-english", "en"), ("German English", "en"), ("English (India)", "en")),
        *(("Scottish English", "en"), ("Scottish Gaelic", "gd"), ("Brazilian Portuguese", "pt"), ("中文", "zh")),
        *(("Mandarin", "zh"), ("nb-NO", "no"), ("Javanese", "jw"), ("fil", "tl")),
        *(("ua", "ua"), ("gr", "gr"), ("French accent", "French accent")),
        *(("xx", "xx"), ("no such tongue", "no such tongue")),
    ],
)
def test_a_language_has_one_code_whatever_a_corpus_calls_it(name: str, code: str | None) -> None:
    assert language_code(name) == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"language": "unknown", "locale": "fr"}, "fr"),
        ({"Language": "German"}, "de"),
        ({"LANG": "es", "lang_code": "fr"}, "es"),
        ({"lang_code": "fr"}, "fr"),
        ({"language": 7, "accent": "fr"}, None),
    ],
)
def test_the_first_field_with_a_known_language_counts(fields: dict[str, object], code: str | None) -> None:
    assert Utterance("a", Path("a.wav"), 0.0, 1.0, "text", "speaker", fields).language == code


def run_without_languages(
    folder: Path, language: str | None = None, field: str = "language", text: str | None = None
) -> RunDir:
    """A run with the corpus stage done; its manifests name no language, or one in some field."""
    from moe_lightning.corpus.__main__ import main as corpus

    (folder / "corpus").mkdir(parents=True)
    write_tones(folder / "corpus", {"train": 8, "dev": 2, "test": 2})
    for file in (folder / "corpus").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            del row["language"]
            row |= {field: language} if language else {}
            row |= {"text": text} if text else {}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RunDir(folder / "run")
    corpus(["--dataset-root", str(folder / "corpus"), "--run-dir", str(run.path)])
    return run


def embedded(run: RunDir, whisper: Path, *flags: str) -> None:
    embed(["--run-dir", str(run.path), "--whisper-model", str(whisper), "--num-workers", "0", *flags])


def settled(run: RunDir) -> dict:
    return json.loads(run.languages_file.read_text())


def refuse(run: RunDir, whisper: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The line of a refused embedding."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        embedded(run, whisper, *flags)
    return only_line(ended.value.code, capsys.readouterr().err)


def refused_for_its_texts(folder: Path, whisper: Path, capsys: pytest.CaptureFixture[str]) -> RunDir:
    """A run whose languages were detected before the check of transcripts for gradients refused them."""
    run = run_without_languages(folder, text="far too long " * 100)
    assert "transcripts" in refuse(run, whisper, capsys, "--gradients")
    assert len(settled(run)["detected"]) == 12
    return run


@pytest.mark.parametrize("field", ["language", "lang", "locale"])
def test_the_manifests_language_counts_under_any_usual_name(
    tmp_path: Path, tiny_whisper: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path, "fr_FR", field)
    embedded(run, tiny_whisper, "--language", "de")
    assert {utterance.language for utterance in read_split(run, "train")} == {"fr"}
    assert not run.languages_file.exists()
    assert "name no language" not in capsys.readouterr().out


def test_where_no_language_is_named_the_model_detects_it_and_says_so(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    embedded(run, tiny_whisper)
    assert "12 of 12 utterances name no language" in capsys.readouterr().out
    detected = settled(run)["detected"]
    assert len(detected) == 12
    for utterance in read_split(run, "dev"):
        assert utterance.language == detected[utterance.id]


def test_a_language_that_is_given_is_every_nameless_utterances(tmp_path: Path, tiny_whisper: Path) -> None:
    run = run_without_languages(tmp_path)
    embedded(run, tiny_whisper, "--language", "French")
    assert {utterance.language for utterance in read_split(run, "test")} == {"fr"}


@pytest.mark.parametrize(("language", "named"), [("tlh", "'tlh'"), ("no such tongue", "'no such tongue'")])
def test_a_language_that_the_model_lacks_is_refused_before_anything_is_embedded(
    tmp_path: Path, tiny_whisper: Path, language: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path, language)
    with pytest.raises(SystemExit) as ended:
        embedded(run, tiny_whisper)
    line = only_line(ended.value.code, capsys.readouterr().err)
    assert named in line
    assert "12 of 12" in line
    assert not run.embedding_dirs()


def english_only(folder: Path) -> Path:
    """A tiny Whisper whose generation config says that it is English-only, though its tokenizer holds all tokens."""
    write_whisper(folder)
    file = folder / "generation_config.json"
    settings = {**json.loads(file.read_text()), "is_multilingual": False}
    del settings["lang_to_id"]
    file.write_text(json.dumps(settings))
    return folder


def test_an_english_only_model_is_prompted_by_start_and_no_timestamps(tmp_path: Path) -> None:
    tokens = load_backbone(str(english_only(tmp_path))).tokens
    ids = tokens.tokenizer.get_vocab()
    assert tokens.prompt("en") == tokens.prompt() == [ids["<|startoftranscript|>"], ids["<|notimestamps|>"]]


def test_an_english_only_model_refuses_other_languages_and_takes_nameless_utterances_for_english(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whisper = english_only(tmp_path / "whisper.en")
    french = run_without_languages(tmp_path / "french", "fr")
    with pytest.raises(SystemExit) as ended:
        embedded(french, whisper)
    line = only_line(ended.value.code, capsys.readouterr().err)
    assert "English-only" in line
    assert "'fr'" in line
    nameless = run_without_languages(tmp_path / "nameless")
    embedded(nameless, whisper)
    assert {utterance.language for utterance in read_split(nameless, "train")} == {"en"}


def test_a_multilingual_model_is_never_silently_english(tiny_whisper: Path) -> None:
    with refuses("language.missing"):
        load_backbone(str(tiny_whisper)).tokens.prompt(None)


@pytest.mark.parametrize("flags", [("--precision", "8-mixed"), ("--devices", "none"), ("--shard-size", "0")])
def test_an_embedding_refused_for_a_flag_settles_no_languages(
    tmp_path: Path, tiny_whisper: Path, flags: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    assert flags[0] in refuse(run, tiny_whisper, capsys, *flags)
    assert not run.languages_file.exists()
    embedded(run, tiny_whisper, "--language", "de")
    assert {utterance.language for utterance in read_split(run, "train")} == {"de"}


def test_an_embedding_refused_for_its_folder_settles_no_languages(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    embedded(run, tiny_whisper)
    run.record_file("embedding").unlink()
    run.languages_file.unlink()
    assert "pooling was mean" in refuse(run, tiny_whisper, capsys, "--pooling", "mean+std")
    assert not run.languages_file.exists()


def test_languages_of_a_refused_attempt_give_way_to_a_given_language(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = refused_for_its_texts(tmp_path, tiny_whisper, capsys)
    embedded(run, tiny_whisper, "--language", "de")
    assert (settled(run)["given"], settled(run)["detected"]) == ("de", {})
    assert {utterance.language for utterance in read_split(run, "train")} == {"de"}
    assert json.loads(run.record_file("embedding").read_text())["resolved"]["language"] == "de"


def test_languages_of_a_refused_attempt_give_way_to_another_models(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = refused_for_its_texts(tmp_path, tiny_whisper, capsys)
    another = write_whisper(tmp_path / "another")
    embedded(run, another)
    assert "12 of 12 utterances name no language" in capsys.readouterr().out
    assert settled(run)["made_with"]["whisper_model"] == str(another)


def test_languages_of_a_refused_attempt_give_way_to_another_corpus(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = refused_for_its_texts(tmp_path, tiny_whisper, capsys)
    other = run_without_languages(tmp_path / "other")
    shutil.rmtree(run.stage_dir("corpus"))
    shutil.copytree(other.stage_dir("corpus"), run.stage_dir("corpus"))
    capsys.readouterr()
    embedded(run, tiny_whisper)
    assert "12 of 12 utterances name no language" in capsys.readouterr().out


def test_languages_made_with_the_same_are_kept(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = refused_for_its_texts(tmp_path, tiny_whisper, capsys)
    before = settled(run)
    heard = {**before, "detected": dict.fromkeys(before["detected"], "mi")}
    run.languages_file.write_text(json.dumps(heard))
    embedded(run, tiny_whisper, "--batch-size", "3")
    assert settled(run) == heard
    assert "name no language" not in capsys.readouterr().out


def test_a_finished_store_keeps_its_languages(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    embedded(run, tiny_whisper)
    before = settled(run)
    assert "language was auto, now de" in refuse(run, tiny_whisper, capsys, "--language", "de")
    run.record_file("embedding").unlink()
    assert "language was auto, now de" in refuse(run, tiny_whisper, capsys, "--language", "de")
    assert settled(run) == before


def test_a_store_of_an_older_version_keeps_its_languages(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    embedded(run, tiny_whisper)
    old = {"given": None, "detected": dict.fromkeys(settled(run)["detected"], "mi")}
    run.languages_file.write_text(json.dumps(old))
    (run.embedding_dir(str(tiny_whisper)) / "mapping.json").unlink()
    embedded(run, tiny_whisper)
    assert settled(run) == old


def test_an_embedding_killed_before_its_first_shard_takes_another_language(tmp_path: Path, tiny_whisper: Path) -> None:
    run = run_without_languages(tmp_path)
    assert embed_and_die(run, tiny_whisper, "SIGKILL", 0) == -9
    assert len(settled(run)["detected"]) == 12
    embedded(run, tiny_whisper, "--language", "de")
    assert {utterance.language for utterance in read_split(run, "train")} == {"de"}


def test_an_embedding_killed_after_its_first_shard_keeps_its_language(
    tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_without_languages(tmp_path)
    assert embed_and_die(run, tiny_whisper, "SIGKILL", 2, "--batch-size", "4", "--shard-size", "4") == -9
    before = settled(run)
    assert "language was auto, now de" in refuse(run, tiny_whisper, capsys, "--language", "de")
    embedded(run, tiny_whisper)
    assert settled(run) == before
