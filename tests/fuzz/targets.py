"""Every reader, as a function of bytes: it reads them, or raises an InputError. Anything else is a find.

The bytes are written where the reader looks for them, beside whatever else it needs, which is in order.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.fuzz.seeds import (
    CLUSTERER,
    COST,
    CUT,
    GATE,
    INFO,
    KALDI,
    KALDI_FILES,
    MAPPED,
    MIXTURE,
    PERSON,
    RECORD,
    ROW,
    SEPARATOR,
    SHARD,
    SPOKEN,
    VERIFIED,
    array_bytes,
    clusterer_arrays,
    clusterer_files,
    lines,
)

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """A reader and inputs to begin with."""

    prepare: Callable[[Path], Read]
    """Given a folder of its own."""
    seeds: Sequence[bytes]
    is_json: bool = True
    """Whether lines of it are mutated as JSON too."""


def _recording(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "a.wav", np.zeros(1600), 16_000)


def _corpus(place: str) -> Callable[[Path], Read]:
    """The corpus of which one file is the input: read, kept to its folder, and each recording looked at."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.corpus.probe import probe_entry
        from moe_lightning.corpus.readers import list_entries

        path = folder / place
        _recording(path.parent)
        os.chdir(path.parent)  # lhotse's paths are relative to where one is

        def read(contents: bytes) -> object:
            path.write_bytes(contents)
            probed = [probe_entry(entry) for entry in list_entries(folder, allow_outside_root=True)]
            return probed, list_entries(folder)

        return read

    return prepare


def _several(places: Sequence[str]) -> Callable[[Path], Read]:
    """The same of a corpus of several files; the input is all of them."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.corpus.probe import probe_entry
        from moe_lightning.corpus.readers import list_entries

        _recording((folder / places[0]).parent)

        def read(contents: bytes) -> object:
            parts = contents.split(SEPARATOR)
            for place, part in zip(places, [*parts, *[b""] * len(places)], strict=False):
                (folder / place).write_bytes(part)
            probed = [probe_entry(entry) for entry in list_entries(folder, allow_outside_root=True)]
            return probed, list_entries(folder)

        return read

    return prepare


def _manifest(folder: Path) -> Read:
    from moe_lightning.corpus.manifest import read_manifest, write_manifest

    path = folder / "train.jsonl"

    def read(contents: bytes) -> object:
        path.write_bytes(contents)
        utterances = read_manifest(path)
        write_manifest(utterances, folder / "again.jsonl")
        written = [replace(one, audio_file=Path(os.path.abspath(one.audio_file))) for one in utterances]
        assert read_manifest(folder / "again.jsonl") == written, "what was read is not what was written"
        return utterances

    return read


def _store(name: str) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        from moe_lightning.store.embedding_store import EmbeddingStore, StoreEntry, StoreInfo, is_whole_store
        from moe_lightning.store.shards import finished_shards

        entries = tuple(
            StoreEntry(id_, "", "", "", "embeddings_00000.npy", row, "train") for row, id_ in enumerate("ab")
        )
        EmbeddingStore(entries, np.ones((2, 3), np.float32), StoreInfo("nano", "mean", "batch")).save(folder)

        def read(contents: bytes) -> object:
            (folder / name).write_bytes(contents)
            return is_whole_store(folder), finished_shards(folder), EmbeddingStore.load(folder).ids

        return read

    return prepare


def _labels(kind: str) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        from moe_lightning.soft_labels import HardLabels, SoftLabels

        load: Callable[[Path], Any] = {"soft": SoftLabels.load, "hard": HardLabels.load}[kind]
        path = folder / "labels.json"

        def read(contents: bytes) -> object:
            path.write_bytes(contents)
            labels = load(path)
            labels.save(folder / "again.json")
            assert load(folder / "again.json").ids == labels.ids, "what was read is not what was written"
            return labels

        return read

    return prepare


def _clusterer(name: str) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        from moe_lightning.clustering.clusterer import Clusterer

        clusterer_files(folder)

        def read(contents: bytes) -> object:
            (folder / name).write_bytes(contents)
            return Clusterer.load(folder).soft_labels(np.ones((2, 3), np.float32))

        return read

    return prepare


def _stage_record(folder: Path) -> Read:
    from moe_lightning.evaluation.environment import environment
    from moe_lightning.run_dir import RunDir
    from moe_lightning.stage_record import is_finished

    run = RunDir(folder)
    run.stage_dir("corpus").mkdir(parents=True)
    run.stage_dir("embedding").mkdir(parents=True)

    def read(contents: bytes) -> object:
        for stage in ("corpus", "embedding"):
            run.record_file(stage).write_bytes(contents)  # type: ignore[arg-type]
        return environment(run), [is_finished(run, stage, {"seed": 1.0}) for stage in ("corpus", "embedding")]  # type: ignore[arg-type]

    return read


def _verified_record(folder: Path) -> Read:
    from moe_lightning.run_dir import RunDir
    from moe_lightning.verify.records import check_files, check_inputs_of, read_records

    run = RunDir(folder)
    for stage in ("corpus", "embedding"):
        run.stage_dir(stage).mkdir(parents=True)  # type: ignore[arg-type]
    (run.stage_dir("corpus") / "train.jsonl.gz").write_bytes(b"")

    def read(contents: bytes) -> object:
        for stage in ("corpus", "embedding"):
            run.record_file(stage).write_bytes(contents)  # type: ignore[arg-type]
        records, findings = read_records(run)
        found = [[*check_files(run, stage, records), *check_inputs_of(run, stage, records)] for stage in records]
        return [one.line() for some in (findings, *found) for one in some]

    return read


def _recordings(folder: Path) -> Read:
    from moe_lightning.corpus.recordings import changed_recordings

    _recording(folder)

    def read(contents: bytes) -> object:
        (folder / "recordings.json").write_bytes(contents)
        return list(changed_recordings(folder))

    return read


def _run_json(name: str) -> Callable[[Path], Read]:
    """JSON of a finished run, read as the commands after it do."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.ladder.tuning import dev_score
        from moe_lightning.moe.model import read_config
        from moe_lightning.moe.refinement import read_rounds
        from moe_lightning.moe.stages_before import check_reading
        from moe_lightning.run_dir import RunDir

        run = RunDir(folder)
        for stage in ("moe", "gating", "clustering"):
            run.stage_dir(stage).mkdir(parents=True)  # type: ignore[arg-type]
        run.mixture_config_file.write_bytes(MIXTURE)
        config = read_config(run)
        file, ask = {
            "mixture": (run.mixture_config_file, lambda: read_config(run).gate_config),
            "best": (run.best_file, lambda: dev_score(run)),
            "gate": (run.gate_config_file, lambda: check_reading(config, run)),
            "refinement": (run.refinement_file, lambda: read_rounds(run.refinement_file)),
        }[name]

        def read(contents: bytes) -> object:
            file.write_bytes(contents)
            return ask()

        return read

    return prepare


def _hypotheses(folder: Path) -> Read:
    from moe_lightning.evaluation.hypotheses import Decoded
    from moe_lightning.run_dir import ReportDir

    report = ReportDir(folder)

    def read(contents: bytes) -> object:
        lines, _, cost = contents.partition(SEPARATOR)
        report.hypotheses_file.write_bytes(lines)
        report.decoding_file.write_bytes(cost)
        return Decoded.load(report).experts()

    return read


def _config(folder: Path) -> Read:
    from moe_lightning.command_line import CommandParser
    from moe_lightning.stage_record import command_settings

    path = folder / "own.yaml"
    parser = CommandParser(prog="fuzz", takes_config=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--set", action="append")

    def read(contents: bytes) -> object:
        path.write_bytes(contents)
        command_settings(["--config", str(path)])
        return parser.parse(["--config", str(path)])

    return read


TARGETS: dict[str, Target] = {
    "jsonl": Target(_corpus("train.jsonl"), [lines(ROW), lines({**ROW, "tags": ["x"], "split": "dev"})]),
    "guide": Target(_corpus("Train/ann/ann.json"), [lines(PERSON)]),
    "lhotse": Target(_corpus("cuts_train.jsonl"), [lines(CUT)]),
    "kaldi": Target(_several(KALDI_FILES), [KALDI, SEPARATOR.join([b"a flac -c -d a.wav |", b"a b"])], is_json=False),
    "common-voice": Target(
        _several(("clips/x", "train.tsv")),
        [SEPARATOR + b"client_id\tpath\tsentence\tage\nann\t../a.wav\thello\t3\n"],
        is_json=False,
    ),
    "librispeech": Target(
        _several(("train-clean/14/208/14-208.trans.txt", "SPEAKERS.TXT")),
        [b"14-208-0000 HELLO\na HI\n" + SEPARATOR + b"; x\n14 | F | train-clean\n"],
        is_json=False,
    ),
    "manifest": Target(_manifest, [lines(CUT), lines({**CUT, "channel": [0, 1], "type": "MultiCut"})]),
    "mapping.json": Target(_store("mapping.json"), [lines([MAPPED, {**MAPPED, "id": "b", "row": 1}])]),
    "store.json": Target(_store("store.json"), [lines(INFO)]),
    "shard index": Target(_store("embeddings_00000.json"), [lines(SHARD)]),
    "shard": Target(_store("embeddings_00000.npy"), [array_bytes()], is_json=False),
    "soft labels": Target(_labels("soft"), [lines([{"id": "a", "probs": [0.5, 0.5]}, {"id": "b", "probs": [1, 0]}])]),
    "labels": Target(_labels("hard"), [lines([{"id": "a", "label": 0}, {"id": "b", "label": -1}])]),
    "clusterer.json": Target(_clusterer("clusterer.json"), [lines(CLUSTERER)]),
    "clusterer arrays": Target(_clusterer("clusterer.safetensors"), [clusterer_arrays()], is_json=False),
    "stage.json": Target(_stage_record, [lines(RECORD), lines({**RECORD, "settings": {"a.b": "x"}})]),
    "verified record": Target(_verified_record, [lines(VERIFIED)]),
    "recordings.json": Target(_recordings, [lines([{"path": "a.wav", "bytes": 3, "sha256_of_ends": "0a"}])]),
    "mixture.json": Target(_run_json("mixture"), [MIXTURE]),
    "best.json": Target(_run_json("best"), [lines({"best": 0.5, "epoch": 1})]),
    "gate config": Target(_run_json("gate"), [lines(GATE)]),
    "refinement.json": Target(_run_json("refinement"), [lines([{"round": 1, "epoch": 0}])]),
    "hypotheses": Target(_hypotheses, [lines(SPOKEN) + SEPARATOR + lines(COST)]),
    "config": Target(_config, [b"seed: 1\nset: {moe.model.rank: 8}\n", b"seed: &a [1]\nset: *a\n"], is_json=False),
}
