"""Corpora as other tools save them: lhotse's cuts and Shar, Hugging Face datasets."""

import json

import numpy as np
import pytest
import soundfile

from moe_lightning.corpus.__main__ import main
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.corpus.readers.columns import parse_columns
from moe_lightning.data.audio import read_audio
from moe_lightning.data.manifest import read_manifest, write_manifest
from moe_lightning.data.utterance import Utterance
from moe_lightning.run.folder import RunDir
from tests.corpora import tone, write_audio
from tests.refusals import refuses


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
        entries = read_corpus(tmp_path / "m", allow_outside_root=True)
        assert sorted((entry.id, entry.split) for entry in entries) == [
            ("ann/1", "train"), ("bob", "train"), ("dev-ann/1", "dev"), ("dev-bob", "dev"),
        ]  # fmt: skip
        first, second = read_corpus(tmp_path / "m" / "train.jsonl.gz", allow_outside_root=True)
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
        entries = read_corpus(tmp_path / "p", allow_outside_root=True)
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
        with refuses("corpus.not-a-file", "1_sp1.1"):
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

    def test_a_file_says_its_split_before_its_folder_and_the_name_of_the_corpus_says_none(self, tmp_path):
        for name in ("train", "test"):
            self.write(tmp_path / "train-corpus", name, "parquet", num_rows=1)
        entries = read_corpus(tmp_path / "train-corpus", audio_dir=tmp_path / "audio")
        assert sorted(entry.split for entry in entries) == ["test", "train"]

    def test_own_columns_are_taken_and_cached_results_are_not(self, tmp_path):
        own_columns = {"verbatim": ["a", "b", "c"], "patient": ["p", None, "r"]}
        self.write(tmp_path / "hf", "train", "parquet", **own_columns)
        (tmp_path / "hf" / "cache-0123.arrow").write_bytes(b"of a function")
        own = parse_columns(["text=verbatim", "speaker=patient"])
        entries = read_corpus(tmp_path / "hf", audio_dir=tmp_path / "audio", columns=own)
        assert [entry.text for entry in entries] == ["a", "b", "c"]
        assert [entry.speaker.startswith("unknown:") for entry in entries] == [False, True, False]
        with refuses("setting.choice", "--columns text=verbatm"):
            read_corpus(tmp_path / "hf", audio_dir=tmp_path / "audio", columns=parse_columns(["text=verbatm"]))

    def test_a_gap_that_pandas_wrote_is_no_speaker(self, tmp_path):
        self.write(tmp_path / "hf", "train", "parquet", speaker_id=[1.0, float("nan"), 2.0])
        speakers = [entry.speaker for entry in read_corpus(tmp_path / "hf", audio_dir=tmp_path / "audio")]
        assert (speakers[0], speakers[1].startswith("unknown:"), speakers[2]) == ("1.0", True, "2.0")

    def test_a_table_without_speech_is_refused(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "train.parquet")
        with refuses("corpus.bad-row", "train.parquet"):
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


def test_only_one_channel_is_heard_where_one_is_named(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(0.5), np.zeros(8000)], axis=1), 16_000)
    write_manifest([Utterance("u", path, 0.0, 0.5, "a", "s", channel=1)], tmp_path / "m.jsonl.gz")
    (utterance,) = read_manifest(tmp_path / "m.jsonl.gz")
    assert utterance.channel == 1
    assert not read_audio(utterance).any()
