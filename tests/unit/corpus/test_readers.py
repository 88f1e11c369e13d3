import json
from pathlib import Path

import pytest

from moe_lightning.corpus.readers import read_corpus
from tests.corpora import write_audio, write_rows
from tests.refusals import refuses


def write_contributor(root: Path, split: str, name: str, files: list[str], **more: object) -> Path:
    folder = root / split / name
    for file in files:
        write_audio(folder / file, 0.3)
    entries = [
        {"Filename": file, "Created": "2024", "Prompt": {"Transcript": f" words of {file} ", "Category": "digits"}}
        for file in files
    ]
    (folder / f"{name}.json").write_text(json.dumps({"Etiology": "ALS", **more, "Files": entries}), encoding="utf-8")
    return folder / f"{name}.json"


class TestTheGuidesLayout:
    def test_two_contributors_of_one_file_name_stay_two_utterances(self, tmp_path):
        write_contributor(tmp_path, "Train", "ann", ["a.wav", "b.wav"])
        write_contributor(tmp_path, "Train", "bob", ["a.wav"])
        write_contributor(tmp_path, "Dev", "eve", ["a.wav"])
        entries = read_corpus(tmp_path)
        assert [entry.id for entry in entries] == ["ann/a", "ann/b", "bob/a", "eve/a"]
        assert [entry.split for entry in entries] == ["train", "train", "train", "dev"]
        assert [entry.speaker for entry in entries] == ["ann", "ann", "bob", "eve"]
        assert entries[2].audio_file == tmp_path / "Train" / "bob" / "a.wav"
        assert entries[2].text == "words of a.wav"

    def test_etiology_and_every_other_plain_field_is_kept(self, tmp_path):
        write_contributor(tmp_path, "Train", "ann", ["a.wav"], **{"Contributor Age": 61, "Nested": {"x": 1}})
        (entry,) = read_corpus(tmp_path)
        assert entry.fields == {"etiology": "ALS", "contributor_age": 61, "created": "2024", "category": "digits"}

    def test_a_stem_or_a_contributor_that_comes_twice_gets_a_longer_id(self, tmp_path):
        write_contributor(tmp_path, "Train", "ann", ["a.wav", "a.flac"])
        write_contributor(tmp_path, "Dev", "ann", ["a.wav"])
        assert [entry.id for entry in read_corpus(tmp_path)] == ["ann/a", "ann/a.flac", "ann/a.wav"]

    def test_a_test_folder_is_the_test_split(self, tmp_path):
        for split, name in [("train", "ann"), ("DEV", "bob"), ("Test", "eve")]:
            write_contributor(tmp_path, split, name, ["a.wav"])
        assert [entry.split for entry in read_corpus(tmp_path)] == ["train", "dev", "test"]

    @pytest.mark.parametrize(
        ("contents", "code"),
        [
            ("{", "file.malformed"),
            ("[]", "file.malformed"),
            ('{"Etiology": "\\ud83d", "Files": []}', "file.malformed"),
            ('{"Files": {}}', "file.malformed"),
            ('{"Files": [{"Prompt": {}}]}', "corpus.bad-row"),
        ],
    )
    def test_a_malformed_contributor_is_named(self, tmp_path, contents, code):
        write_contributor(tmp_path, "Train", "ann", ["a.wav"]).write_text(contents)
        with refuses(code, "ann.json"):
            read_corpus(tmp_path)

    def test_a_contributor_without_a_record_is_an_error(self, tmp_path):
        write_contributor(tmp_path, "Train", "ann", ["a.wav"])
        write_audio(tmp_path / "Train" / "bob" / "a.wav")
        with refuses("file.missing", "bob.json"):
            read_corpus(tmp_path)

    def test_a_prompt_without_a_transcript_is_an_entry_without_text(self, tmp_path):
        path = write_contributor(tmp_path, "Train", "ann", ["a.wav"])
        path.write_text('{"Files": [{"Filename": "a.wav"}]}')
        assert [entry.text for entry in read_corpus(tmp_path)] == [""]


class TestJsonl:
    def test_a_row_may_say_little(self, tmp_path):
        write_rows(tmp_path / "train.jsonl", [{"audio_filepath": "clips/ann/a.wav", "text": "hello"}])
        (entry,) = read_corpus(tmp_path)
        assert (entry.id, entry.audio_file) == ("clips/ann/a", tmp_path / "clips/ann/a.wav")
        assert (entry.split, entry.start, entry.duration, entry.fields) == ("train", 0.0, None, {})

    def test_a_row_may_say_much(self, tmp_path):
        row = {"id": 7, "audio_filepath": "/far/a.wav", "text": "hello", "offset": 1.5, "duration": 2, "speaker": "ann"}
        more = {"accent": "en-gb", "age": 40, "score": None, "Home Town": "Ur", "tags": ["x"], "split": "dev"}
        write_rows(tmp_path / "dev.jsonl", [row | more])
        (entry,) = read_corpus(tmp_path, allow_outside_root=True)
        assert (entry.id, entry.audio_file, entry.speaker) == ("7", Path("/far/a.wav"), "ann")
        assert (entry.split, entry.start, entry.duration) == ("dev", 1.5, 2.0)
        assert entry.fields == {"accent": "en-gb", "age": 40, "score": None, "home_town": "Ur", "tags": '["x"]'}

    def test_segments_of_one_file_get_ids_of_their_own(self, tmp_path):
        rows = [{"audio_filepath": "a.wav", "text": "x", "offset": offset, "duration": 1} for offset in (0, 1, 2.5)]
        write_rows(tmp_path / "train.jsonl", rows)
        assert [entry.id for entry in read_corpus(tmp_path)] == ["a", "a@1", "a@2.5"]

    def test_unnamed_speakers_are_told_apart_by_folder(self, tmp_path):
        rows = [{"audio_filepath": f"clips/{name}.wav", "text": "x"} for name in ("p/a", "p/b", "q/a")]
        write_rows(tmp_path / "train.jsonl", rows)
        speakers = [entry.speaker for entry in read_corpus(tmp_path)]
        assert speakers == ["unknown:clips/p", "unknown:clips/p", "unknown:clips/q"]

    def test_a_prefix_chooses_among_the_manifests_of_a_folder(self, tmp_path):
        for name in ("train", "dev", "smoke_train", "smoke_test"):
            write_rows(tmp_path / f"{name}.jsonl", [{"audio_filepath": f"{name}.wav", "text": "x"}])
        assert [entry.id for entry in read_corpus(tmp_path)] == ["train", "dev"]
        entries = read_corpus(tmp_path / "smoke")
        assert [(entry.id, entry.split) for entry in entries] == [("smoke_train", "train"), ("smoke_test", "test")]

    def test_one_file_honours_the_split_of_its_rows(self, tmp_path):
        rows = [{"audio_filepath": f"{split}.wav", "text": "x", "split": split} for split in ("train", "valid", "TEST")]
        path = write_rows(tmp_path / "all.jsonl", rows)
        assert [entry.split for entry in read_corpus(path)] == ["train", "dev", "test"]
        write_rows(path, [{"audio_filepath": "a.wav", "text": "x", "split": "other"}])
        with refuses("corpus.bad-row", "split"):
            read_corpus(path)

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("{", "train.jsonl, line 3"),
            ("[1]", "train.jsonl, line 3"),
            ('{"audio_filepath": "a.wav", "text": "\\ud83d"}', "train.jsonl, line 3"),
            ('{"text": "x"}', "audio_filepath"),
            ('{"audio_filepath": 3, "text": "x"}', "audio_filepath"),
            ('{"audio_filepath": "a.wav", "text": 3}', "text"),
            ('{"audio_filepath": "a.wav", "text": "x", "duration": "2 s"}', "duration"),
            ('{"audio_filepath": "a.wav", "text": "x", "duration": NaN}', "duration"),
            ('{"audio_filepath": "a.wav", "text": "x", "offset": -1}', "offset"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path, line, value):
        (tmp_path / "train.jsonl").write_text(f'{{"audio_filepath": "b.wav", "text": "y"}}\n\n{line}\n')
        with refuses("corpus.bad-row", value) as refused:
            read_corpus(tmp_path)
        assert "train.jsonl, line 3" in str(refused.value)

    def test_a_file_that_is_no_text_is_named(self, tmp_path):
        (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe\x00")
        with refuses("file.encoding", "train.jsonl, line 1"):
            read_corpus(tmp_path)

    def test_an_id_that_comes_twice_is_refused(self, tmp_path):
        for split in ("train", "dev"):
            write_rows(tmp_path / f"{split}.jsonl", [{"id": "u", "audio_filepath": f"{split}.wav", "text": "x"}])
        with refuses("corpus.id-twice", "u"):
            read_corpus(tmp_path)


def test_nothing_empty_or_unknown_is_taken_for_a_corpus(tmp_path):
    with refuses("corpus.unknown-form", "none"):
        read_corpus(tmp_path / "none")
    with refuses("corpus.unknown-form"):
        read_corpus(tmp_path)
    (tmp_path / "train.jsonl").write_text("\n")
    with refuses("corpus.empty"):
        read_corpus(tmp_path)
