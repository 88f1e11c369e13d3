import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.__main__ import main
from moe_lightning.corpus.checking.text_checks import FEWEST_TEXTS, check_texts
from tests.corpora import utterances_of, write_audio, write_rows


@pytest.fixture
def odd_corpus(tmp_path):
    """A corpus with one of everything that a check looks for; the id says what is wrong."""
    rows = {"train": [], "dev": [], "test": []}
    rng = np.random.default_rng(0)

    def add(split, name, text, seconds=1.0, speaker=None, **more):
        path = tmp_path / "audio" / f"{name}.wav"
        if not path.exists():
            write_audio(path, seconds)
        rows[split].append({"id": name, "audio_filepath": f"audio/{name}.wav", "text": text} | more)
        rows[split][-1]["speaker"] = speaker or f"{split}-speaker-{name[:2]}"

    for number in range(30):
        add(
            "train",
            f"good{number}",
            f"sentence number {'abcdefghijklmnopqrstuvwxyz1234'[number % 26]}{number * 'o'}"[:20],
        )
    soundfile.write(tmp_path / "audio" / "clipped.wav", np.clip(3 * rng.standard_normal(16_000), -1, 1), 16_000)
    soundfile.write(tmp_path / "audio" / "silent.wav", np.zeros(16_000), 16_000)
    (tmp_path / "audio" / "broken.wav").write_text("no audio")
    soundfile.write(tmp_path / "audio" / "cut.flac", rng.standard_normal(64_000) * 0.1, 16_000)
    whole = (tmp_path / "audio" / "cut.flac").read_bytes()
    (tmp_path / "audio" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "audio" / "worn.wav").write_bytes(whole[:middle] + bytes(4000) + whole[middle + 4000 :])
    for name in ("clipped", "silent", "broken", "cut", "worn"):
        add("train", name, f"this one is {name}")
    add("train", "long", "much too long", seconds=31)
    add("train", "short", "the manifest says too little", seconds=3, duration=1.5)
    add("train", "fast", "a very long sentence that nobody could ever say in a single second " * 5)
    add("train", "odd", "five \N{EURO SIGN} and a \N{REPLACEMENT CHARACTER}")
    add("train", "dumb", "")
    add("train", "bracketed", "I want (to) go home")
    add("train", "tokens", "b" * 449, seconds=20)
    add("train", "known", "said by two", speaker="shared")
    add("dev", "twin", "said by two", speaker="shared")
    add("dev", "good0", "an id again")
    add("test", "fine", "quite alright")
    for split, of_split in rows.items():
        write_rows(tmp_path / f"{split}.jsonl", of_split)
    return tmp_path


def check(root, output_dir, *flags):
    """Exit code and JSON report of the command."""
    code = 0
    try:
        main(["check", str(root), "--output-dir", str(output_dir), *flags])
    except SystemExit as exit_info:
        code = exit_info.code
    return code, json.loads((output_dir / "report.json").read_text(encoding="utf-8"))


def test_a_check_finds_one_of_everything_and_names_it(odd_corpus, tmp_path, capsys):
    code, report = check(odd_corpus, tmp_path / "report")
    found = {finding["rule"]: finding for finding in report["findings"]}
    utterances = {rule: set(finding["utterances"]) for rule, finding in found.items()}
    assert code == 1
    assert utterances["broken recording"] == {"broken", "dumb", "cut"}
    assert utterances["breaks off"] == {"worn"}
    assert utterances["too long"] == {"long"}
    assert "silent" in utterances["silent"]
    assert utterances["clipped"] == {"clipped"}
    assert utterances["wrong duration"] == {"short"}
    assert "fast" in utterances["odd speaking rate"]
    assert utterances["odd characters"] >= {"odd"}
    assert utterances["perhaps too many tokens"] == {"tokens"}
    assert utterances["words in brackets"] == {"bracketed"}
    assert utterances["repeated id"] == {"good0"}
    assert utterances["speaker in two splits"] == {"known", "twin"}
    assert utterances["text in two splits"] == {"known", "twin"}
    assert utterances["recording in two splits"] == {"good0"}
    stops = {rule for rule, finding in found.items() if finding["stops_training"]}
    assert stops == {
        *("broken recording", "breaks off", "repeated id", "speaker in two splits", "recording in two splits")
    }
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert all(rule in page for rule in found)
    output = capsys.readouterr().out
    assert all(word in output for word in ("train", "hours", "repeated id", "report.html"))


def test_recorded_speech_has_nothing_that_stops_a_training(real_corpus, tmp_path):
    code, report = check(real_corpus / "sentences_en", tmp_path / "report")
    assert code == 0
    assert report["summary"]["splits"]["train"]["num_utterances"] == 1123
    assert report["summary"]["splits"]["train"]["hours"] == pytest.approx(1.0, abs=0.01)
    assert set(report["summary"]["fields"]["domain"]) == {"en_native", "en_other", "en_zh_adult", "en_zh_child"}
    for histogram in report["summary"]["histograms"]:
        assert sum(map(sum, histogram["counts"].values())) == 1123 + 148 + 140


def test_a_flag_accepts_shared_speakers(real_corpus, tmp_path):
    assert check(real_corpus / "smoke", tmp_path / "a")[0] == 1
    assert check(real_corpus / "smoke", tmp_path / "b", "--allow-shared-speakers")[0] == 0


def test_a_corpus_of_one_speaker_would_stop_a_training(tmp_path, jsonl_corpus):
    root = jsonl_corpus(train={"ann": 4})
    code, report = check(root, tmp_path / "report")
    assert code == 1
    assert [finding["rule"] for finding in report["findings"] if finding["stops_training"]] == ["no splits"]


def test_a_tokenizer_counts_the_tokens(tmp_path, tiny_whisper):
    write_rows(
        tmp_path / "train.jsonl",
        [{"audio_filepath": str(write_audio(tmp_path / f"{size}.wav")), "text": "a" * size} for size in (10, 600)],
    )
    _, report = check(tmp_path, tmp_path / "report", "--tokenizer", str(tiny_whisper))
    found = {finding["rule"]: finding["utterances"] for finding in report["findings"]}
    assert found["too many tokens"] == ["600"]
    with pytest.raises(SystemExit):
        main(["check", str(tmp_path), "--tokenizer", str(tmp_path / "none")])


def test_letters_of_another_script_are_odd_and_accents_are_not():
    corpus = utterances_of({"ann": 2000})
    corpus[0] = utterances_of({"bob": 1})[0].__class__(
        "u", corpus[0].audio_file, 0.0, 1.0, "p\N{CYRILLIC SMALL LETTER A}", "b"
    )
    corpus[1] = corpus[0].__class__("v", corpus[0].audio_file, 0.0, 1.0, "o\N{LATIN SMALL LETTER U WITH GRAVE}", "b")
    (odd,) = [finding for finding in check_texts(corpus, None) if finding.rule == "odd characters"]
    assert odd.utterances == ("u",)
    assert "cyrillic small letter a" in odd.details[0]


@pytest.mark.parametrize(
    ("language", "text", "is_found"),
    [("fr", "vingt et un", True), ("fr-CA", "vingt et un", True), ("fr", "21", False), ("en", "twenty one", False),
     ("en-US", "twenty one", False), ("", "vingt et un", True)],
)  # fmt: skip
def test_a_language_whose_transcripts_hold_no_figure_is_named(language: str, text: str, is_found: bool) -> None:
    fields = {"language": language} if language else {}
    corpus = [replace(one, fields=fields, text=text) for one in utterances_of({"ann": FEWEST_TEXTS})]
    found = [finding for finding in check_texts(corpus, None) if finding.rule == "no figures"]
    assert [finding.utterances for finding in found] == ([tuple(one.id for one in corpus)] if is_found else [])
    assert not [finding for finding in check_texts(corpus[1:], None) if finding.rule == "no figures"], "too few"


def test_what_is_no_corpus_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["check", str(tmp_path / "none")])
    assert exit_info.value.code == 2
    assert "none does not exist" in capsys.readouterr().err


def test_an_imported_corpus_is_a_dataset_root(tmp_path, jsonl_corpus, capsys):
    root = jsonl_corpus(train={f"s{number}": 2 for number in range(10)})
    main(["import", "--dataset-root", str(root), "--output-dir", str(tmp_path / "imported")])
    assert "its audio lies elsewhere: use it with --allow-outside-root" in capsys.readouterr().out
    flags = ["--dataset-root", str(tmp_path / "imported"), "--allow-outside-root"]
    main([*flags, "--run-dir", str(tmp_path / "run")])
    for split in ("train", "dev", "test"):
        imported, again = tmp_path / "imported" / f"{split}.jsonl.gz", tmp_path / "run" / "corpus" / f"{split}.jsonl.gz"
        assert imported.read_bytes() == again.read_bytes()
