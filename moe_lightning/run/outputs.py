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

from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.run.folder import RunDir
from moe_lightning.run.stages import STAGES, Stage, info

_NO_OUTPUT = ("stage.json", "stage.json.begun", "*.lock", "*.partial", "partial.*")
"""Records, lock files, and half-written files of a stopped run."""


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
    found = {name: folder / name for name in _below(folder) if not _is_one_of(name, info(stage).foreign)}
    if stage == "experts":  # adapters of the pre-training, until the joint stage writes its own
        found |= {f"{one.name}/{name}": one / name for one in _adapters(run) for name in _below(one)}
    return {path.relative_to(run.path).as_posix(): path for _, path in sorted(found.items())}


def file_states(run: RunDir, stage: Stage) -> dict[str, dict[str, Any]]:
    """Size and digest of a stage's output files, for its record."""
    files = stage_files(run, stage)
    known: dict[Path, str] = {}
    if info(stage).known_digests:
        digests_of = info(stage).function("known_digests")
        for folder in {path.parent for path in files.values()}:
            known |= {folder / name: sha256 for name, sha256 in digests_of(folder).items()}
    return {
        name: FileState(path.stat().st_size, known.get(path) or digest(path))._asdict() for name, path in files.items()
    }


def input_digests(run: RunDir, stage: Stage, records: Mapping[Stage, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Digests of a stage's input files by producing stage, from the producers' records."""
    producers = [before for before in info(stage).reads if before in records]
    return {before: dict(_read_files(run, stage, before, records[before])) for before in producers}


def _read_files(run: RunDir, stage: Stage, before: Stage, record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and digest of the files of an earlier stage that a stage reads."""
    folder, globs = run.stage_dir(before), info(before).outputs
    for name, state in record.get("files", {}).items():
        path = run.path / name
        if not path.parent.is_relative_to(folder) or not _is_one_of(os.path.relpath(path, folder), globs):
            continue
        if stage == "clustering" or GRADIENTS_DIR not in Path(name).parts:
            yield name, state["sha256"]


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
