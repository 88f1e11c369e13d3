"""Readers of what a run leaves, each as a function of the bytes of its file; what lies beside it is in order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.fuzz.corpora import Read, recording
from tests.robustness.fuzz.seeds import MIXTURE, SEPARATOR, clusterer_files


def store(name: str) -> Callable[[Path], Read]:
    """One file of a store of embeddings; the others are in order."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry, StoreInfo, is_whole_store
        from moe_lightning.data.shards import finished_shards

        entries = tuple(
            StoreEntry(id_, "", "", "", "embeddings_00000.npy", row, "train") for row, id_ in enumerate("ab")
        )
        EmbeddingStore(entries, np.ones((2, 3), np.float32), StoreInfo("nano", "mean", 0.0)).save(folder)

        def read(contents: bytes) -> object:
            (folder / name).write_bytes(contents)
            return is_whole_store(folder), finished_shards(folder), EmbeddingStore.load(folder).ids

        return read

    return prepare


def labels(kind: str) -> Callable[[Path], Read]:
    """Soft or hard labels: what is read is written as it was."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.data.soft_labels import HardLabels, SoftLabels

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


def clusterer(name: str) -> Callable[[Path], Read]:
    """One file of a clusterer; the other is in order."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.clustering.clusterer import Clusterer

        clusterer_files(folder)

        def read(contents: bytes) -> object:
            (folder / name).write_bytes(contents)
            return Clusterer.load(folder).soft_labels(np.ones((2, 3), np.float32))

        return read

    return prepare


def stage_record(folder: Path) -> Read:
    """Records of two stages, as a stage and the report read them."""
    from moe_lightning.evaluation.environment import environment
    from moe_lightning.run.folder import RunDir
    from moe_lightning.run.record import is_finished
    from moe_lightning.settings.comparison import StageSettings

    run = RunDir(folder)
    run.stage_dir("corpus").mkdir(parents=True)
    run.stage_dir("embedding").mkdir(parents=True)

    asked = StageSettings({"seed": 1.0}), StageSettings({}, {"seed": 1.0, "layout": "auto"}, {})

    def read(contents: bytes) -> object:
        for stage in ("corpus", "embedding"):
            run.record_file(stage).write_bytes(contents)  # type: ignore[arg-type]
        return environment(run), [is_finished(run, stage, one) for stage in ("corpus", "embedding") for one in asked]  # type: ignore[arg-type]

    return read


def verified_record(folder: Path) -> Read:
    """Records of two stages, as `moe-lightning verify` reads them."""
    from moe_lightning.run.finding import check_files, check_inputs_of, read_records
    from moe_lightning.run.folder import RunDir

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


def recordings(folder: Path) -> Read:
    """The list of a corpus's recordings."""
    from moe_lightning.data.recordings import changed_recordings

    recording(folder)

    def read(contents: bytes) -> object:
        (folder / "recordings.json").write_bytes(contents)
        return list(changed_recordings(folder))

    return read


def run_json(name: str) -> Callable[[Path], Read]:
    """JSON of a finished run, read as the commands after it do."""

    def prepare(folder: Path) -> Read:
        from moe_lightning.models.checkpoint import read_gate_config
        from moe_lightning.models.mixture_config import read_config
        from moe_lightning.moe.refinement import read_rounds
        from moe_lightning.run.folder import RunDir

        run = RunDir(folder)
        for stage in ("moe", "gating", "clustering"):
            run.stage_dir(stage).mkdir(parents=True)  # type: ignore[arg-type]
        run.mixture_config_file.write_bytes(MIXTURE)
        file, ask = {
            "mixture": (run.mixture_config_file, lambda: read_config(run.mixture_config_file).gate_config),
            "gate": (run.gate_config_file, lambda: read_gate_config(run.gate_config_file)),
            "refinement": (run.refinement_file, lambda: read_rounds(run.refinement_file)),
        }[name]

        def read(contents: bytes) -> object:
            file.write_bytes(contents)
            return ask()

        return read

    return prepare


def best(folder: Path) -> Read:
    """The best scores of the joint stage."""
    from moe_lightning.evaluation.ladder.tuning import dev_score
    from moe_lightning.run.folder import RunDir

    run = RunDir(folder)
    run.stage_dir("moe").mkdir(parents=True)

    def read(contents: bytes) -> object:
        run.best_file.write_bytes(contents)
        return dev_score(run)

    return read


def hypotheses(folder: Path) -> Read:
    """Transcripts and what they cost."""
    from moe_lightning.evaluation.hypotheses import Decoded
    from moe_lightning.run.folder import ReportDir

    report = ReportDir(folder)

    def read(contents: bytes) -> object:
        lines, _, cost = contents.partition(SEPARATOR)
        report.hypotheses_file.write_bytes(lines)
        report.decoding_file.write_bytes(cost)
        return Decoded.load(report).experts()

    return read


def config(folder: Path) -> Read:
    """A config of a command that is no LightningModule."""
    from moe_lightning.settings.command_line import CommandParser
    from moe_lightning.settings.comparison import command_settings

    path = folder / "own.yaml"
    parser = CommandParser(prog="fuzz", takes_config=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--set", action="append")

    def read(contents: bytes) -> object:
        path.write_bytes(contents)
        command_settings(["--config", str(path)])
        return parser.parse(["--config", str(path)])

    return read
