"""Languages of a corpus: read by any usual name, given, or detected; never silently English."""

import json
from pathlib import Path

import pytest

from moe_lightning.backbone.loading import load_backbone
from moe_lightning.corpus import Utterance
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.errors import InputError
from moe_lightning.languages import language_code
from moe_lightning.run_dir import RunDir
from moe_lightning.split import read_split
from tests.refusals import only_line
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


def run_without_languages(folder: Path, language: str | None = None, field: str = "language") -> RunDir:
    """A run with the corpus stage done; its manifests name no language, or one in some field."""
    from moe_lightning.corpus.__main__ import main as corpus

    (folder / "corpus").mkdir(parents=True)
    write_tones(folder / "corpus", {"train": 8, "dev": 2, "test": 2})
    for file in (folder / "corpus").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            del row["language"]
            row |= {field: language} if language else {}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RunDir(folder / "run")
    corpus(["--dataset-root", str(folder / "corpus"), "--run-dir", str(run.path)])
    return run


def embedded(run: RunDir, whisper: Path, *flags: str) -> None:
    embed(["--run-dir", str(run.path), "--whisper-model", str(whisper), "--num-workers", "0", *flags])


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
    detected = json.loads(run.languages_file.read_text())["detected"]
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
    with pytest.raises(InputError, match="--language"):
        load_backbone(str(tiny_whisper)).tokens.prompt(None)
