"""Output files of each stage and their digests, for the stage's record and for `moe-lightning verify`.

A digest is the SHA-256 of a file's bytes, or of the unpacked contents for ``.gz``. Shards of embeddings, the
largest files, are hashed during writing; all others are read once more at the end of their stage.
"""

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.run_dir import STAGES, RunDir, Stage
from moe_lightning.store.embedding_store import GRADIENTS_DIR
from moe_lightning.store.shards import written_digests

READS: dict[Stage, tuple[Stage, ...]] = {
    "corpus": (),
    "embedding": ("corpus",),
    "clustering": ("corpus", "embedding"),
    "gating": ("corpus", "embedding", "clustering"),
    "experts": ("corpus", "embedding", "clustering"),
    "moe": ("corpus", "embedding", "clustering", "gating", "experts"),
    "evaluation": ("corpus", "embedding", "clustering", "moe"),
}
"""Stages whose files a stage reads, directly or through other stages."""
_READ: dict[Stage, tuple[str, ...]] = {
    "corpus": ("*.jsonl.gz", "recordings.json"),
    "embedding": ("*/mapping.json", "*/store.json", "*/*.npy"),
    "clustering": ("*_soft.json", "clusterer.*"),
    "gating": ("best.pt",),
    "experts": ("experts.safetensors",),
    "moe": ("mixture.json", "mixture.safetensors"),
    "evaluation": (),
}
"""Files of each stage that other stages read."""
_NO_OUTPUT = ("stage.json", "stage.json.begun", "*.lock", "*.partial", "partial.*")
"""Records, lock files, and half-written files of a stopped run."""
_OF_OTHERS: dict[Stage, tuple[str, ...]] = {
    "corpus": ("audio/*",),
    "clustering": ("predicted/*",),
    "experts": ("alone_*",),
    "moe": ("best.json",),
    "evaluation": ("dev/*",),
}
"""Files in a stage's folder that belong to other commands: the best scores later get test scores,
unpacked recordings are checked as recordings.
"""


class FileState(NamedTuple):
    """A file's size and digest at the end of its stage."""

    bytes: int
    sha256: str


def digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces; of the unpacked contents for a ``.gz`` file.

    Raises:
        OSError: It cannot be read; EOFError or zlib.error for a damaged ``.gz`` file.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stage_files(run: RunDir, stage: Stage) -> dict[str, Path]:
    """Output files of a stage, by their names under the run's folder."""
    folder = run.stage_dir(stage)
    found = {name: folder / name for name in _below(folder) if not _is_one_of(name, _OF_OTHERS.get(stage, ()))}
    if stage == "experts":  # adapters of the pre-training, until the joint stage writes its own
        found |= {f"{one.name}/{name}": one / name for one in _adapters(run) for name in _below(one)}
    return {path.relative_to(run.path).as_posix(): path for _, path in sorted(found.items())}


def file_states(run: RunDir, stage: Stage) -> dict[str, dict[str, Any]]:
    """Size and digest of a stage's output files, for its record."""
    files = stage_files(run, stage)
    known = {path: sha256 for folder in {path.parent for path in files.values()} for path, sha256 in _known(folder)}
    return {
        name: FileState(path.stat().st_size, known.get(path) or digest(path))._asdict() for name, path in files.items()
    }


def input_digests(run: RunDir, stage: Stage, records: Mapping[Stage, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Digests of a stage's input files by producing stage, from the producers' records."""
    return {
        before: {
            name: state["sha256"]
            for name, state in records[before].get("files", {}).items()
            if (run.path / name).parent.is_relative_to(run.stage_dir(before))
            and (stage == "clustering" or GRADIENTS_DIR not in Path(name).parts)
            and any(fnmatch(os.path.relpath(run.path / name, run.stage_dir(before)), glob) for glob in _READ[before])
        }
        for before in READS[stage]
        if before in records
    }


def owners(records: Mapping[Stage, Mapping[str, Any]]) -> dict[str, Stage]:
    """The stage responsible for each recorded file: the last one that wrote it."""
    return {name: stage for stage in STAGES if stage in records for name in records[stage].get("files", {})}


def _below(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, relative to it; links to folders are followed."""
    seen = {os.path.realpath(folder)}
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_known_link(os.path.join(path, name), seen)]
        for name in names:
            if not _is_one_of(name, _NO_OUTPUT):
                yield os.path.relpath(os.path.join(path, name), folder)


def _is_known_link(path: str, seen: set[str]) -> bool:
    """True for a link to a folder that the walk has visited: links may form circles."""
    real = os.path.realpath(path)
    is_known = os.path.islink(path) and real in seen
    seen.add(real)
    return is_known


def _is_one_of(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch(name, glob) for glob in globs)


def _adapters(run: RunDir) -> list[Path]:
    if run.expert is not None:
        return [run.expert_dir(run.expert)]
    return sorted(run.stage_dir("moe").glob("expert_*"))


def _known(folder: Path) -> Iterator[tuple[Path, str]]:
    for name, sha256 in written_digests(folder).items():
        yield folder / name, sha256
