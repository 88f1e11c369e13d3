"""Lists of recordings in the forms that people have: tables, manifests of toolkits, texts beside recordings."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_lightning.corpus.__main__ import import_command
from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.prepare import prepare_corpus
from moe_lightning.corpus.readers import list_entries, read_corpus
from moe_lightning.corpus.readers.columns import NO_TEXT, parse_columns
from moe_lightning.corpus.readers.hub import download
from moe_lightning.corpus.readers.recognise import find_layout
from moe_lightning.settings.corpus import CorpusSettings
from tests.corpora import write_audio
from tests.refusals import refuses


def recordings(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_audio(folder / name, 0.5)


def one(root: Path, **how: object) -> Entry:
    (entry,) = read_corpus(root, **how)  # type: ignore[arg-type]
    assert entry.audio_file.is_file()
    return entry


@pytest.mark.parametrize("audio", ["path", "file", "audio", "file_name", "audio_filepath", "wav_filename", "Path"])
@pytest.mark.parametrize("text", ["text", "sentence", "transcript", "transcription"])
@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("csv", ";"), ("tsv", "\t"), ("csv", "\t")])
def test_a_table_is_read_by_the_names_of_its_columns(
    audio: str, text: str, suffix: str, separator: str, tmp_path: Path
) -> None:
    recordings(tmp_path, "a.wav")
    with (tmp_path / f"train.{suffix}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([[audio, text, "client_id", "locale", "age"], ["a.wav", "good morning", "ann", "fr", "40"]])
    entry = one(tmp_path)
    assert (entry.split, entry.id, entry.text, entry.speaker) == ("train", "a", "good morning", "ann")
    assert entry.fields == {"locale": "fr", "age": "40"}


def test_a_cell_in_quotes_may_hold_separators_and_line_breaks(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav", "b.wav")
    rows = [("path", "text"), ("a.wav", 'she said, "no",\nand left'), ("b.wav", "yes")]
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    texts = [entry.text for entry in read_corpus(tmp_path)]
    assert texts == [rows[1][1], "yes"]
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.tsv").write_text('path\ttext\na.wav\t"No" she said\nb.wav\t"a ""quoted"" cell"\n')
    assert [entry.text for entry in read_corpus(tmp_path)] == ['"No" she said', 'a "quoted" cell']


def test_the_splits_are_in_names_of_files_or_folders_or_in_a_column(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        recordings(tmp_path / "files", f"{name}.wav")
        (tmp_path / "files" / f"{name}.csv").write_text(f"path,text\n{name}.wav,x\n")
        recordings(tmp_path / "folders" / name, "a.wav")
        (tmp_path / "folders" / name / "metadata.csv").write_text("file_name,transcription\na.wav,x\n")
    recordings(tmp_path / "one", "a.wav", "b.wav")
    (tmp_path / "one" / "list.csv").write_text("path,text,split\na.wav,x,valid\nb.wav,y,\n")
    assert [entry.split for entry in list_entries(tmp_path / "files")] == ["test", "train", "dev"]
    assert {entry.split for entry in list_entries(tmp_path / "folders")} == {"train", "dev", "test"}
    assert [entry.split for entry in read_corpus(tmp_path / "one" / "list.csv")] == ["dev", "train"]
    assert len(read_corpus(tmp_path / "one")) == 2


def test_two_tables_without_splits_are_not_guessed_at(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("path,text\na.wav,x\n")
    with refuses("corpus.unknown-form", tmp_path):
        read_corpus(tmp_path)
    assert one(tmp_path / "two.csv").text == "x"


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    (tmp_path / "train.csv").write_text("recording,phrase,who\na.wav,hello,ann\n")
    with refuses("corpus.unknown-form") as refused:
        read_corpus(tmp_path)
    assert "train.csv with recording, phrase, who" in str(refused.value)
    assert "--columns audio=NAME text=NAME" in str(refused.value)
    entry = one(tmp_path, columns=parse_columns(["audio=recording", "text=phrase", "speaker=who"]))
    assert (entry.text, entry.speaker, entry.fields) == ("hello", "ann", {})
    with refuses("setting.syntax", "--columns sound=a"):
        parse_columns(["sound=a"])


def test_recordings_are_found_in_the_usual_folders_and_without_a_suffix(tmp_path: Path) -> None:
    recordings(tmp_path / "clips", "a.wav")
    (tmp_path / "all.csv").write_text("path,sentence\na,x\n")
    assert one(tmp_path).audio_file == tmp_path / "clips" / "a.wav"


def test_ljspeech_is_a_table_without_a_header(tmp_path: Path) -> None:
    recordings(tmp_path / "wavs", "LJ001-0001.wav", "LJ001-0002.wav")
    lines = ["LJ001-0001|in 1455|in fourteen fifty-five", 'LJ001-0002|"quoted", he said']
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    first, second = read_corpus(tmp_path)
    assert (first.id, first.text, first.fields) == ("LJ001-0001", "in fourteen fifty-five", {"raw_text": "in 1455"})
    assert second.text == '"quoted", he said'


def test_speechbrain_writes_its_data_folder_as_a_variable(tmp_path: Path) -> None:
    recordings(tmp_path / "wav", "a.wav")
    (tmp_path / "train.csv").write_text("ID,duration,wav,spk_id,wrd\nu1,0.5,$data_root/wav/a.wav,ann,HELLO\n")
    entry = one(tmp_path)
    assert (entry.id, entry.text, entry.speaker, entry.duration) == ("u1", "HELLO", "ann", 0.5)


def test_a_stretch_is_given_by_its_start_and_its_end_or_length(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text("path,text,start,end,channel\na.wav,x,0.1,0.4,1\n")
    entry = one(tmp_path)
    assert (entry.start, entry.duration, entry.channel) == (0.1, pytest.approx(0.3), 1)
    (tmp_path / "x.csv").write_text("path,text,start,end\na.wav,x,0.4,0.1\n")
    with refuses("corpus.bad-row", "end"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("line", "value"), [("a.wav", "x.csv, line 2"), (",x", "path"), ("a.wav,x,1,2", "x.csv, line 2")]
)
def test_a_row_that_cannot_be_used_is_named(line: str, value: str, tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_text(f"path,text\n{line}\n")
    with refuses("corpus.bad-row", value):
        read_corpus(tmp_path)


def test_a_table_in_another_encoding_is_named_with_the_encoding(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    (tmp_path / "x.csv").write_bytes("path,text\na.wav,café\n".encode("cp1252"))
    with refuses("file.encoding", "x.csv, line 2") as refused:
        read_corpus(tmp_path)
    assert "Windows-1252" in str(refused.value)
    (tmp_path / "x.csv").write_bytes("path,text\na.wav,café\n".encode("utf-16"))
    with refuses("file.encoding") as refused:
        read_corpus(tmp_path / "x.csv", "table")
    assert "UTF-16" in str(refused.value)


def json_lines(file: Path, *rows: dict[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_manifests_are_known_by_their_contents(tmp_path: Path) -> None:
    recordings(tmp_path / "nemo", "a.wav")
    row = {"audio_filepath": "a.wav", "text": "x", "duration": 0.5, "lang": "fr"}
    json_lines(tmp_path / "nemo" / "train_manifest.json", row)
    json_lines(tmp_path / "nemo" / "notes.json", {"about": "nothing"})
    assert one(tmp_path / "nemo").fields == {"lang": "fr"}
    assert one(tmp_path / "nemo" / "train_manifest.json").split == "train"
    for split in ("train", "dev"):
        recordings(tmp_path / "wenet" / split, f"{split}.wav")
        json_lines(tmp_path / "wenet" / split / "data.list", {"key": split, "wav": f"{split}.wav", "txt": "x"})
    assert {entry.id: entry.split for entry in read_corpus(tmp_path / "wenet")} == {"train": "train", "dev": "dev"}
    recordings(tmp_path / "folder" / "train", "a.wav")
    json_lines(tmp_path / "folder" / "train" / "metadata.jsonl", {"file_name": "a.wav", "transcription": "x"})
    assert one(tmp_path / "folder").text == "x"


def test_texts_beside_recordings_are_their_transcripts(tmp_path: Path) -> None:
    for split, speaker, suffix in (("train", "ann", "txt"), ("test", "bob", "lab")):
        recordings(tmp_path / split / speaker, "a.wav", "b.WAV")
        (tmp_path / split / speaker / f"a.{suffix}").write_text("hello\n there\n")
    found = read_corpus(tmp_path)
    assert [(one.id, one.split, one.text) for one in found] == [
        ("test/bob/a", "test", "hello there"),
        ("test/bob/b", "test", ""),
        ("train/ann/a", "train", "hello there"),
        ("train/ann/b", "train", ""),
    ]
    assert {one.speaker for one in found} == {"unknown:train/ann", "unknown:test/bob"}
    assert find_layout(tmp_path) == "paired"


def test_the_folder_above_a_common_voice_release_is_one_too(tmp_path: Path) -> None:
    release = tmp_path / "cv-corpus-17.0" / "fr"
    recordings(release / "clips", "a.mp3")
    (release / "train.tsv").write_text("client_id\tpath\tsentence\nann\ta.mp3\tbonjour\n")
    assert one(tmp_path).fields["language"] == "fr"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["text"], "a Kaldi data directory, and has no wav.scp"),
        (["clips/a.wav"], "no train.tsv"),
        (["deep/er/a.wav"], "1 recordings and no transcripts"),
        (["a.pdf"], "expected lhotse"),
    ],
)
def test_what_is_missing_to_the_nearest_form_is_said(files: list[str], words: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with refuses("corpus.unknown-form", tmp_path) as refused:
        read_corpus(tmp_path)
    assert words in str(refused.value)


def test_a_dataset_of_the_hub_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "datasets--someone--speech"
    snapshot = home / "snapshots" / ("0" * 40)
    recordings(snapshot, "a.wav")
    (snapshot / "metadata.csv").write_text("file_name,transcription\na.wav,hello\n")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    assert one(download("hub:someone/speech")).text == "hello"
    with refuses("file.missing", "hub:someone/else"):
        download("hub:someone/else")


def test_recordings_without_transcripts_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        recordings(tmp_path / split / f"speaker_{split}", "a.wav", "b.wav")
    with refuses("corpus.unknown-form"):
        prepare_corpus(CorpusSettings(dataset_root=str(tmp_path)), tmp_path / "audio")
    corpus = prepare_corpus(CorpusSettings(dataset_root=str(tmp_path), no_transcripts=True), tmp_path / "audio")
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [2, 2, 2]
    (tmp_path / "list.csv").write_text("path,who\ntrain/speaker_train/a.wav,ann\n")
    settings = CorpusSettings(dataset_root=str(tmp_path / "list.csv"), no_transcripts=True, columns=("speaker=who",))
    with refuses("corpus.few-speakers"):
        prepare_corpus(settings, tmp_path / "audio")
    (entry,) = list_entries(tmp_path / "list.csv", columns=(("speaker", "who"), NO_TEXT))
    assert (entry.text, entry.speaker) == ("", "ann")


def table(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "lines",
    [
        ['a.wav,"he said', "b.wav,two", 'c.wav,three"'],
        ['a.wav,"never closed', "b.wav,two"],
        ['a.wav,"he said \\"hi\\""'],
    ],
)
def test_rows_do_not_vanish_in_a_quotation_that_is_not_closed(lines: list[str], tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav", "b.wav", "c.wav")
    table(tmp_path / "train.csv", "path,text", *lines)
    with refuses("corpus.bad-row") as refused:
        read_corpus(tmp_path)
    assert "quotation mark" in str(refused.value)


def test_the_number_of_a_line_counts_blank_lines_too(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    table(tmp_path / "train.csv", "path,text", "", "", "a.wav,one", "a.wav")
    with refuses("corpus.bad-row") as refused:
        read_corpus(tmp_path)
    assert "line 5" in str(refused.value)


@pytest.mark.parametrize("name", ["valid", "val", "validation", "development"])
def test_a_list_for_tuning_is_read_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    for number, split in enumerate(("train", name, "evaluation")):
        for root in ("j", "t"):
            recordings(tmp_path / root, f"{number}.wav")
        json_lines(tmp_path / "j" / f"{split}.jsonl", {"audio_filepath": f"{number}.wav", "text": "x"})
        table(tmp_path / "t" / f"{split}.csv", "path,text", f"{number}.wav,x")
    for root in ("j", "t"):
        found = {entry.id: entry.split for entry in read_corpus(tmp_path / root)}
        assert found == {"0": "train", "1": "dev", "2": "test"}


def test_a_table_that_is_not_read_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "test", "extra")):
        table(tmp_path / f"{name}.csv", "path,text", f"{number}.wav,x")
    with pytest.warns(UserWarning, match="not read.*: extra.csv"):
        assert len(read_corpus(tmp_path)) == 2


def test_the_split_of_a_row_does_not_contradict_the_files_name(tmp_path: Path) -> None:
    rows = ("path,text,split", "a.wav,x,train", "b.wav,x,test")
    file = table(tmp_path / "train_test.csv", *rows)
    with refuses("corpus.bad-row", "split"):
        read_corpus(tmp_path)
    file.rename(tmp_path / "all.csv")
    assert [entry.split for entry in read_corpus(tmp_path)] == ["train", "test"]


def test_the_name_of_the_corpus_says_nothing_of_a_split(tmp_path: Path) -> None:
    root = tmp_path / "train-corpus"
    root.mkdir()
    json_lines(root / "data.list", {"key": "a", "wav": "a.wav", "txt": "x", "split": "test"})
    assert [entry.split for entry in read_corpus(root)] == ["test"]


@pytest.mark.parametrize("name", ["verbatm", "no such"])
def test_a_column_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    table(tmp_path / "t" / "train.csv", "path,text,Verbatim", "a.wav,one,two")
    (tmp_path / "j").mkdir()
    json_lines(tmp_path / "j" / "train.jsonl", {"audio_filepath": "a.wav", "text": "one", "Verbatim": "two"})
    for root in (tmp_path / "t", tmp_path / "j"):
        with refuses("setting.choice", f"--columns text={name}"):
            read_corpus(root, columns=parse_columns([f"text={name}"]))
        (entry,) = read_corpus(root, columns=parse_columns(["text=verbatim"]))
        assert entry.text == "two", "upper and lower case are alike"


def test_own_columns_are_refused_where_names_are_fixed(tmp_path: Path) -> None:
    recordings(tmp_path / "clips", "a.wav")
    table(tmp_path / "train.tsv", "client_id\tpath\tsentence\tmine", "ann\ta.wav\tone\ttwo")
    with refuses("setting.conflict", "--columns text=mine") as refused:
        read_corpus(tmp_path, columns=parse_columns(["text=mine"]))
    assert "insist on one with --layout" in str(refused.value)
    (entry,) = read_corpus(tmp_path, "table", columns=parse_columns(["text=mine"]))
    assert (entry.text, entry.audio_file.name) == ("two", "a.wav")


def test_a_missing_first_recording_does_not_decide_on_all(tmp_path: Path) -> None:
    recordings(tmp_path / "clips", "b.wav")
    table(tmp_path / "train.csv", "path,text", "a,one", "b,two")
    assert [entry.audio_file.is_file() for entry in read_corpus(tmp_path)] == [False, True]


def test_two_people_on_two_channels_get_ids_of_their_own(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", "path,text,channel", "a.wav,one,0", "a.wav,two,1")
    assert [(entry.id, entry.channel) for entry in read_corpus(tmp_path)] == [("a#0", 0), ("a#1", 1)]


def test_files_that_macos_writes_beside_others_are_none(tmp_path: Path) -> None:
    recordings(tmp_path / "train", "a.wav")
    (tmp_path / "train" / "a.txt").write_text("one")
    for name in ("._a.wav", "._a.txt", "._train.csv", "._train.jsonl"):
        (tmp_path / "train" / name).write_bytes(b"\0\5\x16\7" + bytes(100))
        (tmp_path / name).write_bytes(b"\0\5\x16\7" + bytes(100))
    assert one(tmp_path).text == "one"


def test_texts_in_capital_suffixes_and_recordings_of_other_formats_are_seen(tmp_path: Path) -> None:
    recordings(tmp_path, "a.WAV")
    (tmp_path / "a.TXT").write_text("one")
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (tmp_path / "b.txt").write_text("two")
    found = [(entry.audio_file.name, entry.text) for entry in read_corpus(tmp_path)]
    assert found == [("a.WAV", "one"), ("b.m4a", "two")]
    with refuses("audio.undecodable", "b.m4a"):
        prepare_corpus(CorpusSettings(dataset_root=str(tmp_path)), tmp_path / "audio")


def test_folders_of_people_are_no_splits(tmp_path: Path) -> None:
    for name in ("val", "dev_patel", "ann"):
        recordings(tmp_path / name, f"{name}.wav")
        (tmp_path / name / f"{name}.txt").write_text("one")
    assert {entry.split for entry in read_corpus(tmp_path)} == {"train"}
    recordings(tmp_path / "train" / "ann", "more.wav")
    (tmp_path / "train" / "ann" / "more.txt").write_text("two")
    assert {entry.split for entry in read_corpus(tmp_path)} == {"train", "dev"}


def test_a_duration_shorter_than_its_recording_is_told(tmp_path: Path) -> None:
    for number in range(4):
        write_audio(tmp_path / f"{number}.wav", 2.0)
    rows = [f"{number}.wav,x,s{number},{0.03 if number == 1 else 2.0}" for number in range(4)]
    table(tmp_path / "all.csv", "path,text,speaker,duration", *rows)
    (told,) = prepare_corpus(CorpusSettings(dataset_root=str(tmp_path)), tmp_path / "audio").warnings
    assert "1 recordings are longer than their durations say" in told
    assert "1.wav: 0.03 of 2.00 s" in told


def test_a_decimal_comma_of_a_spreadsheet_is_understood(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 2.0)
    table(tmp_path / "train.csv", "path;text;start;duration", "a.wav;one;0,5;1,25")
    (entry,) = read_corpus(tmp_path)
    assert (entry.start, entry.duration) == (0.5, 1.25)


def test_an_import_overwrites_no_corpus(tmp_path: Path, jsonl_corpus: Callable[..., Path]) -> None:
    root = jsonl_corpus(train={"ann": 2, "bob": 2}, dev={"eve": 1}, test={"joe": 1})

    def imported(output_dir: Path) -> None:
        import_command(["--dataset-root", str(root), "--output-dir", str(output_dir)])

    with refuses("folder.taken", root):
        imported(root)
    imported(tmp_path / "out")
    imported(tmp_path / "out")  # again, over its own files
    mine = tmp_path / "mine" / "dev.jsonl.gz"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with refuses("folder.taken", "dev.jsonl.gz"):
        imported(mine.parent)
    assert mine.read_bytes() == b"mine"


def test_a_text_without_its_recording_is_told(tmp_path: Path) -> None:
    recordings(tmp_path, "a.wav")
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one")
    with pytest.warns(UserWarning, match=r"1 texts have no recording of their name, the first is .*b\.txt"):
        assert one(tmp_path).text == "one"


def test_a_copy_of_a_training_recording_in_the_test_is_told(
    tmp_path: Path, jsonl_corpus: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = jsonl_corpus(train={"ann": 2, "bob": 2}, dev={"eve": 1}, test={"joe": 1})
    (root / "audio/joe/test0.wav").write_bytes((root / "audio/ann/train1.wav").read_bytes())
    (root / "audio/eve/dev0.wav").write_bytes((root / "audio/eve/dev0.wav").read_bytes() + b"\0\0")
    import_command(["--dataset-root", str(root), "--output-dir", str(tmp_path / "out")])
    assert "test0.wav is " in capsys.readouterr().err
