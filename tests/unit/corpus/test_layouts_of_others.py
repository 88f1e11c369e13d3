"""Corpora in the forms that their makers give them."""

import pytest

from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.readers.recognise import find_layout
from moe_lightning.corpus.readers.split_names import split_in_name
from tests.corpora import write_audio, write_rows
from tests.refusals import refuses


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-clean-100", "train"),
        ("cuts_dev-other.jsonl.gz", "dev"),
        ("validation-00000-of-00001.parquet", "dev"),
        ("eval2000", "test"),
        ("latest", None),
        ("trainer", None),
    ],
)
def test_a_split_is_a_whole_word_of_a_name(name, split):
    assert split_in_name(name) == split


class TestCommonVoice:
    COLUMNS = ("client_id", "path", "sentence", "up_votes", "age", "gender", "accents", "locale")

    def write(self, folder, split, *rows):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "clips").mkdir(exist_ok=True)
        lines = ["\t".join(self.COLUMNS), *("\t".join(row) for row in rows)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def test_a_release_is_read_with_all_its_columns(self, tmp_path):
        self.write(tmp_path / "cy", "train", ("c1", "cv_1.mp3", 'he said "yes', "2", "twenties", "", "Wales", "cy"))
        self.write(tmp_path / "cy", "test", ("c2", "cv_2", "no", "2", "", "male_masculine", "", "cy"))
        first, second = read_corpus(tmp_path / "cy")
        assert (first.id, first.split, first.speaker, first.text) == ("cv_1", "train", "c1", 'he said "yes')
        assert first.audio_file == tmp_path / "cy" / "clips" / "cv_1.mp3"
        assert first.fields == {
            "language": "cy",
            "up_votes": "2",
            "age": "twenties",
            "accents": "Wales",
            "locale": "cy",
        }
        assert (second.split, second.audio_file.name) == ("test", "cv_2.mp3")
        assert read_corpus(tmp_path) == [first, second]

    def test_validated_clips_are_train_where_there_are_no_splits(self, tmp_path):
        self.write(tmp_path, "validated", ("c1", "a.mp3", "x", "", "", "", "", "en"))
        assert [entry.split for entry in read_corpus(tmp_path)] == ["train"]

    def test_a_table_of_another_kind_is_named(self, tmp_path):
        self.write(tmp_path, "train", ("c1",))
        with refuses("corpus.bad-row", "train.tsv, line 2"):
            read_corpus(tmp_path)
        (tmp_path / "train.tsv").write_text("a\tb\n1\t2\n")
        with refuses("corpus.bad-row", "train.tsv"):
            read_corpus(tmp_path)


class TestLibriSpeech:
    def write(self, root):
        for part, speaker, chapter in [
            ("train-clean-5", "14", "208"),
            ("dev-clean-2", "84", "121"),
            ("test-x", "9", "1"),
        ]:
            folder = root / part / speaker / chapter
            id_ = f"{speaker}-{chapter}-0000"
            write_audio(folder / f"{id_}.flac", 0.3)
            (folder / f"{speaker}-{chapter}.trans.txt").write_text(f"{id_} CHAPTER ONE\n")
        (root / "SPEAKERS.TXT").write_text(
            ";ID |SEX| SUBSET\n14   | F | train-clean-5 | 25 | A. B.\n84 | M | dev | 1 | C\n"
        )
        return root

    @pytest.mark.parametrize("inner", ["", "LibriSpeech"])
    def test_a_tree_is_read(self, tmp_path, inner):
        self.write(tmp_path / inner)
        dev, test, train = read_corpus(tmp_path)
        assert [entry.split for entry in (dev, test, train)] == ["dev", "test", "train"]
        assert (train.id, train.speaker, train.text) == ("14-208-0000", "14", "CHAPTER ONE")
        assert train.fields == {"language": "en", "part": "train-clean-5", "chapter": "208", "gender": "female"}
        assert "gender" not in test.fields
        assert train.audio_file.is_file()

    def test_one_part_is_a_corpus_too(self, tmp_path):
        part = self.write(tmp_path) / "train-clean-5"
        assert [(entry.id, entry.split) for entry in read_corpus(part)] == [("14-208-0000", "train")]

    def test_a_recording_that_is_missing_is_an_entry_still(self, tmp_path):
        (recording,) = (self.write(tmp_path) / "train-clean-5").rglob("*.flac")
        recording.unlink()
        assert recording in [entry.audio_file for entry in read_corpus(tmp_path)]


class TestKaldi:
    def write(self, folder, **files):
        folder.mkdir(parents=True, exist_ok=True)
        for name, contents in files.items():
            (folder / name.replace("_scp", ".scp")).write_text(contents)
        return folder

    def test_segments_and_every_other_file_are_read(self, tmp_path):
        write_audio(tmp_path / "r1.wav", 2.0)
        root = self.write(
            tmp_path / "data" / "train",
            wav_scp=f"r1 {tmp_path}/r1.wav\n",
            segments="u1 r1 0.0 0.5\nu2 r1 0.5 -1\n",
            text="u1 HELLO  THERE\nu2\n",
            utt2spk="u1 ann\nu2\tann\n",
            spk2gender="ann f\n",
            utt2lang="u1 en\n",
            utt2dur="u1 0.5\n",
        )
        first, second = read_corpus(root.parent, allow_outside_root=True)
        assert (first.id, first.split, first.speaker, first.text) == ("u1", "train", "ann", "HELLO  THERE")
        assert (first.start, first.duration, first.fields) == (0.0, 0.5, {"language": "en", "gender": "f"})
        assert (second.start, second.duration, second.text) == (0.5, None, "")

    def test_plain_names_are_preferred_and_others_are_taken_for_missing_splits(self, tmp_path):
        for name in ("train", "train_sp", "dev_clean"):
            self.write(tmp_path / name, wav_scp=f"{name}1 /{name}.wav\n", text=f"{name}1 A\n")
        assert [entry.id for entry in read_corpus(tmp_path, allow_outside_root=True)] == ["train1", "dev_clean1"]
        (tmp_path / "train" / "wav.scp").unlink()
        assert [(entry.id, entry.split) for entry in read_corpus(tmp_path, allow_outside_root=True)] == [
            ("dev_clean1", "dev"),
            ("train_sp1", "train"),
        ]

    @pytest.mark.parametrize("name", ["wav_scp", "text", "utt2spk"])
    def test_a_key_that_comes_twice_is_refused(self, tmp_path, name):
        files = {"wav_scp": "u /a.wav\n", "text": "u A\n", "utt2spk": "u ann\n"}
        self.write(tmp_path, **{**files, name: 2 * files[name]})
        with refuses("corpus.id-twice", "u"):
            read_corpus(tmp_path, allow_outside_root=True)

    def test_a_text_without_a_recording_is_told(self, tmp_path):
        self.write(tmp_path, wav_scp="u /a.wav\n", text="u A\nv B\n")
        with pytest.warns(UserWarning, match="1 utterances have no recording, the first is v"):
            assert len(read_corpus(tmp_path, allow_outside_root=True)) == 1

    @pytest.mark.parametrize("value", ["flac -cd --skip=1:00 /a.flac", "sph2pipe -t 1:2 /a.sph", "cat /a.wav /b.txt"])
    def test_a_program_that_takes_a_part_of_a_file_is_refused(self, tmp_path, value):
        self.write(tmp_path, wav_scp=f"u {value} |\n", text="u A\n")
        with refuses("corpus.not-a-file"):
            read_corpus(tmp_path, allow_outside_root=True)

    @pytest.mark.parametrize(
        ("value", "name", "channel"),
        [
            ("flac -c -d -s /a/b.flac |", "/a/b.flac", None),
            ("/usr/bin/sph2pipe -f wav -p -c 2 /a/b.sph |", "/a/b.sph", 1),
            ("/a/b.wav", "/a/b.wav", None),
        ],
    )
    def test_a_pipe_that_only_unpacks_a_file_stands_for_the_file(self, tmp_path, value, name, channel):
        self.write(tmp_path, wav_scp=f"u {value}\n", text="u A\n")
        (entry,) = read_corpus(tmp_path, allow_outside_root=True)
        assert (str(entry.audio_file), entry.channel) == (name, channel)

    @pytest.mark.parametrize(
        ("files", "refusal"),
        [
            ({"wav_scp": "u sox /a.wav -t wav - speed 1.1 |\n"}, ("corpus.not-a-file", "wav.scp: u")),
            ({"wav_scp": "u flac -cd /a.flac | sox - -t wav - |\n"}, ("corpus.not-a-file", "wav.scp: u")),
            ({"wav_scp": "r /a.wav\n", "segments": "u r 0\n"}, ("corpus.bad-row", "u")),
            ({"wav_scp": "r /a.wav\n", "segments": "u q 0 1\n"}, ("corpus.bad-row", "u")),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path, files, refusal: tuple[str, ...]):
        self.write(tmp_path, **files)
        with refuses(*refusal):
            read_corpus(tmp_path)


def test_a_layout_can_be_insisted_on(tmp_path):
    write_rows(tmp_path / "train.jsonl", [{"audio_filepath": "a.wav", "text": "x"}])
    assert find_layout(tmp_path) == "jsonl"
    assert find_layout(tmp_path, "jsonl") == "jsonl"
    with refuses("corpus.unknown-form"):
        find_layout(tmp_path, "kaldi")
    with refuses("setting.choice", "--layout tape"):
        find_layout(tmp_path, "tape")
