"""Corpora in the forms that their makers and other tools give them."""

import json

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus import Utterance, read_audio, read_manifest, write_manifest
from moe_lightning.corpus.__main__ import main
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.readers.recognise import find_layout
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.errors import InputError
from moe_lightning.run_dir import RunDir
from tests.corpus.conftest import tone, utterances_of, write_audio, write_rows


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
        with pytest.raises(InputError, match=r"train\.tsv, line 2 has no path, or too few columns"):
            read_corpus(tmp_path)
        (tmp_path / "train.tsv").write_text("a\tb\n1\t2\n")
        with pytest.raises(InputError, match=r"train\.tsv: the first line must name"):
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
        first, second = read_corpus(root.parent)
        assert (first.id, first.split, first.speaker, first.text) == ("u1", "train", "ann", "HELLO  THERE")
        assert (first.start, first.duration, first.fields) == (0.0, 0.5, {"language": "en", "gender": "f"})
        assert (second.start, second.duration, second.text) == (0.5, None, "")

    def test_plain_names_are_preferred_among_data_directories(self, tmp_path):
        for name in ("train", "train_sp", "dev_clean"):
            self.write(tmp_path / name, wav_scp=f"{name}1 /{name}.wav\n", text=f"{name}1 A\n")
        assert [entry.id for entry in read_corpus(tmp_path)] == ["train1"]
        (tmp_path / "train" / "wav.scp").unlink()
        assert [(entry.id, entry.split) for entry in read_corpus(tmp_path)] == [
            ("dev_clean1", "dev"),
            ("train_sp1", "train"),
        ]

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
        (entry,) = read_corpus(tmp_path)
        assert (str(entry.audio_file), entry.channel) == (name, channel)

    @pytest.mark.parametrize(
        ("files", "rule"),
        [
            ({"wav_scp": "u sox /a.wav -t wav - speed 1.1 |\n"}, "is made by a program"),
            ({"wav_scp": "u flac -cd /a.flac | sox - -t wav - |\n"}, "is made by a program"),
            ({"wav_scp": "r /a.wav\n", "segments": "u r 0\n"}, "segments: u needs a recording, a start and an end"),
            ({"wav_scp": "r /a.wav\n", "segments": "u q 0 1\n"}, "'q', which wav.scp does not have"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path, files, rule):
        self.write(tmp_path, **files)
        with pytest.raises(InputError, match=rule):
            read_corpus(tmp_path)


class TestLhotse:
    @pytest.fixture
    def utterances(self, tmp_path):
        mono = write_audio(tmp_path / "in" / "mono.wav", 1.0)
        stereo = tmp_path / "in" / "stereo.wav"
        soundfile.write(stereo, np.stack([tone(1.0), np.zeros(16_000)], axis=1), 16_000)
        return [
            Utterance("ann/1", mono, 0.25, 0.5, "hello", "ann", {"accent": "x", "language": "en"}),
            Utterance("bob", stereo, 0.0, 1.0, "yes", "bob", {}, channel=1),
        ]

    def test_cuts_are_read_from_a_file_or_from_the_folder_of_a_run(self, tmp_path, utterances):
        write_manifest(utterances, tmp_path / "m" / "train.jsonl.gz")
        write_manifest(utterances_as(utterances, "dev"), tmp_path / "m" / "my_cuts_dev-clean.jsonl.gz")
        entries = read_corpus(tmp_path / "m")
        assert sorted((entry.id, entry.split) for entry in entries) == [
            ("ann/1", "train"), ("bob", "train"), ("dev-ann/1", "dev"), ("dev-bob", "dev"),
        ]  # fmt: skip
        first, second = read_corpus(tmp_path / "m" / "train.jsonl.gz")
        assert (first.start, first.duration, first.text, first.speaker) == (0.25, 0.5, "hello", "ann")
        assert first.fields == {"accent": "x", "language": "en"}
        assert second.channel == 1

    def test_a_cut_of_several_supervisions_is_several_utterances(self, tmp_path, utterances):
        from lhotse import CutSet, RecordingSet, SupervisionSegment, SupervisionSet

        write_manifest(utterances[:1], tmp_path / "a.jsonl.gz")
        (cut,) = CutSet.from_file(tmp_path / "a.jsonl.gz")
        halves = [
            SupervisionSegment(f"s{number}", cut.recording_id, 0.5 * number, 0.4, text="a", speaker="ann")
            for number in range(2)
        ]
        (tmp_path / "p").mkdir()
        RecordingSet.from_recordings([cut.recording]).to_file(tmp_path / "p" / "x_recordings_train.jsonl.gz")
        SupervisionSet.from_segments(halves).to_file(tmp_path / "p" / "x_supervisions_train.jsonl.gz")
        entries = read_corpus(tmp_path / "p")
        assert [(entry.id, entry.start, entry.duration) for entry in entries] == [("s0", 0.0, 0.4), ("s1", 0.5, 0.4)]

    def test_shar_is_unpacked_into_files(self, tmp_path, utterances):
        from lhotse import CutSet

        write_manifest(utterances, tmp_path / "a.jsonl.gz")
        for split in ("train", "dev"):
            cuts = CutSet.from_file(tmp_path / "a.jsonl.gz").map(
                lambda cut, split=split: cut.with_id(f"{split}-{cut.id}")
            )
            (tmp_path / "shar" / split).mkdir(parents=True)
            cuts.to_shar(str(tmp_path / "shar" / split), fields={"recording": "flac"}, shard_size=1)
        entries = read_corpus(tmp_path / "shar", audio_dir=tmp_path / "audio")
        assert [entry.id for entry in entries] == ["train-ann/1", "train-bob", "dev-ann/1", "dev-bob"]
        assert len({entry.audio_file for entry in entries}) == 4
        original_L = read_audio(utterances[0])
        unpacked_L = read_audio(Utterance("u", entries[0].audio_file, entries[0].start, 0.5, "a", "s"))
        assert np.allclose(original_L, unpacked_L, atol=1e-3)

    def test_what_is_not_as_it_lies_on_disk_is_refused(self, tmp_path, utterances):
        from lhotse import CutSet

        write_manifest(utterances[:1], tmp_path / "a.jsonl.gz")
        (tmp_path / "fast").mkdir()
        CutSet.from_file(tmp_path / "a.jsonl.gz").perturb_speed(1.1).to_file(tmp_path / "fast" / "train.jsonl.gz")
        with pytest.raises(InputError, match=r"cut ann/1_sp1\.1 changes its recording"):
            read_corpus(tmp_path / "fast")


def utterances_as(utterances, prefix):
    """The same utterances under other ids and speakers."""
    return [
        Utterance(f"{prefix}-{one.id}", one.audio_file, one.start, one.duration, one.text, f"{prefix}-{one.speaker}")
        for one in utterances
    ]


class TestHuggingFace:
    def write(self, folder, name, kind, num_rows=3, **more):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        folder.mkdir(parents=True, exist_ok=True)
        recordings = [
            write_audio(folder.parent / f"{name}{number}.flac", 0.3 + 0.1 * number) for number in range(num_rows)
        ]
        columns = {
            "audio": [{"bytes": path.read_bytes(), "path": path.name} for path in recordings],
            "sentence": [f"word {number}" for number in range(num_rows)],
            "speaker_id": list(range(num_rows)),
            "accent": [number % 2 for number in range(num_rows)],
            **more,
        }
        features = {"accent": {"names": ["welsh", "irish"], "_type": "ClassLabel"}}
        table = pyarrow.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        if kind == "parquet":
            parquet.write_table(table, folder / f"{name}-00000-of-00001.parquet")
        else:
            with pyarrow.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
                writer.write_table(table)

    @pytest.mark.parametrize("kind", ["arrow", "parquet"])
    def test_a_saved_dataset_is_unpacked_without_decoding(self, tmp_path, kind):
        for name in ("train", "validation"):
            self.write(tmp_path / "hf" / (name if kind == "arrow" else "data"), name, kind)
        entries = read_corpus(tmp_path / "hf", audio_dir=tmp_path / "audio")
        assert [entry.split for entry in entries] == ["train"] * 3 + ["dev"] * 3
        assert (entries[1].id, entries[1].text, entries[1].speaker) == ("train1", "word 1", "1")
        assert entries[1].fields == {"accent": "irish"}
        assert entries[1].audio_file.suffix == ".flac"
        (original,) = (tmp_path / "hf").rglob("train1.flac")
        assert entries[1].audio_file.read_bytes() == original.read_bytes()

    def test_a_table_without_speech_is_refused(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=r"train\.parquet needs a column of audio"):
            read_corpus(tmp_path)

    def test_a_run_keeps_the_audio_and_a_refused_one_does_not(self, tmp_path, capsys):
        self.write(tmp_path / "hf" / "train", "train", "arrow", num_rows=5)
        arguments = ["--dataset-root", str(tmp_path / "hf"), "--run-dir", str(tmp_path / "run")]
        with pytest.raises(SystemExit):
            main([*arguments, "--stratify", "dialect"])
        assert "--stratify dialect: no utterance has this field; there are accent" in capsys.readouterr().err
        run = RunDir(tmp_path / "run")
        assert not run.unpacked_audio_dir.exists()
        main(arguments)
        assert len(read_audio(read_manifest(run.manifest_file("train"))[0])) >= 4800


def test_a_layout_can_be_insisted_on(tmp_path):
    write_rows(tmp_path / "train.jsonl", [{"audio_filepath": "a.wav", "text": "x"}])
    assert find_layout(tmp_path) == "jsonl"
    assert find_layout(tmp_path, "jsonl") == "jsonl"
    with pytest.raises(InputError, match=r"holds no corpus of a known form; expected kaldi: wav\.scp and text"):
        find_layout(tmp_path, "kaldi")
    with pytest.raises(InputError, match="--layout must be auto or one of"):
        find_layout(tmp_path, "tape")


def test_only_one_channel_is_heard_where_one_is_named(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(0.5), np.zeros(8000)], axis=1), 16_000)
    write_manifest([Utterance("u", path, 0.0, 0.5, "a", "s", channel=1)], tmp_path / "m.jsonl.gz")
    (utterance,) = read_manifest(tmp_path / "m.jsonl.gz")
    assert utterance.channel == 1
    assert not read_audio(utterance).any()


def test_held_out_speakers_keep_the_shares_of_a_field():
    from collections import Counter

    from moe_lightning.corpus.splits import complete_splits

    train = utterances_of({f"a{number}": 2 for number in range(80)}, accent="us")
    train += utterances_of({f"b{number}": 2 for number in range(20)}, accent="in")
    splits = complete_splits({"train": train}, 42, stratify="accent")
    for split in ("dev", "test"):
        speakers = {(one.speaker, one.fields["accent"]) for one in splits[split]}
        assert Counter(accent for _, accent in speakers) == {"us": 8, "in": 2}
