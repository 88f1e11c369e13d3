"""Records of stages, so that a second run skips a finished stage or reports changes.

A stage's settings (see `stage_settings`) are written to ``stage.json.begun`` when the stage starts: as given, the
parser's defaults, and as resolved. ``stage.json`` exists once all output files do.
"""

import gzip
import hashlib
import json
import os
import platform
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from moe_lightning import __version__
from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError, MissingInputError, StaleStageError
from moe_lightning.run.folder import RunDir
from moe_lightning.run.outputs import digest, file_states, input_digests
from moe_lightning.run.stages import STAGES, Stage, info
from moe_lightning.settings.comparison import Settings, StageSettings, changes, decisive_settings, shown
from moe_lightning.system.json_files import read_json_object, write_json
from moe_lightning.system.locks import stage_lock


def is_finished(run: RunDir, stage: Stage, settings: StageSettings) -> bool:
    """True if the stage is complete and was made with these settings from these inputs.

    An embedding begun without any shard has nothing to resume: its settings may change.

    Raises:
        StaleStageError: It was begun or finished with other settings or inputs.
    """
    finished, begun = run.record_file(stage), _partial(run, stage)
    for file in (finished, begun):
        is_empty = file == begun and stage == "embedding" and not _has_work(run, stage)
        if file.exists() and not is_empty:
            _check_unchanged(run, stage, read_record(file, stage), settings)
    return finished.exists()


def check_inputs(run: RunDir, stage: Stage) -> None:
    """Raise a MissingInputError if an input stage has not finished."""
    if info(stage).after and not run.path.is_dir():
        raise MissingInputError(
            "run.missing",
            f"the run folder {run.path} does not exist; check --run-dir, or run `moe-lightning pipeline` first",
            run.path,
        )
    for name in info(stage).after:
        if not run.record_file(name).exists():
            raise MissingInputError(
                "run.stage-missing",
                f"{run.record_file(name)} is missing: the stage {name} of this run has not finished; run"
                f" `python -m moe_lightning.{name}` or `moe-lightning pipeline` first",
                name,
            )


@contextmanager
def recorded_stage(run: RunDir, stage: Stage, settings: StageSettings) -> Iterator[bool]:
    """Context manager for a stage's work: yields True if there is work to do, and writes the record at the end.

    After an exception the record stays unfinished, so the next run resumes.

    Raises:
        StaleStageError: The stage was made with other settings or inputs.
        MissingInputError: An input stage has not finished.
        InputError: Another process works on the run.
    """
    if is_finished(run, stage, settings):  # every rank checks, so that none waits in vain for another
        if is_first_process():
            print(f"{stage}: finished before with the same settings; nothing to do ({run.stage_dir(stage)})")
        yield False
        return
    check_inputs(run, stage)
    if not is_first_process():
        yield True
        return
    with stage_lock(run.lock_dir), _record(run, stage, settings):
        _tell_of_changed_inputs(run, stage)
        yield True


@contextmanager
def _record(run: RunDir, stage: Stage, settings: StageSettings) -> Iterator[None]:
    """Write a stage's record at its beginning and at its end."""
    started = time.time()
    record = {
        "stage": stage,
        "settings": settings.given,
        "defaults": settings.defaults or {},
        "resolved": settings.all,
        "knobs": sorted(settings.knobs),
        "inputs": _input_hashes(run, stage),
        "input_files": input_digests(run, stage, stage_records(run)),
        "seed": _seed(settings.all),
        "version": __version__,
        "versions": versions(),
        "revision": git_revision(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
    }
    is_new = not _partial(run, stage).exists()
    write_json(_partial(run, stage), record)
    try:
        yield
    except InputError:
        if is_new and not _has_work(run, stage):  # refused, not begun: a user may try other settings
            _partial(run, stage).unlink(missing_ok=True)
        raise
    record["hash"] = _hash(settings, {**_input_hashes(run, stage), **_contents(run, stage)})
    record["files"] = file_states(run, stage)
    write_json(_partial(run, stage), {**record, "seconds": round(time.time() - started, 1)})
    os.replace(_partial(run, stage), run.record_file(stage))  # the last step: a finished stage is complete


def _tell_of_changed_inputs(run: RunDir, stage: Stage) -> None:
    """Warn about input files that differ from their stage's record: nothing else shows a flipped bit.

    The stage goes on, because the change may be intended. Stored frames, up to terabytes, are left to
    `moe-lightning verify`.
    """
    for before, files in input_digests(run, stage, stage_records(run)).items():
        for name, sha256 in files.items():
            with suppress(OSError, EOFError, zlib.error):  # the reader of the file reports it
                if not Path(name).name.startswith("frames_") and digest(run.path / name) != sha256:
                    print(
                        f"warning: {run.path / name} has changed since the stage {before} wrote it;"
                        f" `moe-lightning verify {run.path}` says how to mend a run",
                        flush=True,
                    )


def stage_records(run: RunDir) -> dict[Stage, dict[str, Any]]:
    """Records of the finished stages, in order."""
    return {
        stage: read_json_object(run.record_file(stage), f"moe-lightning {info(stage).command}")
        for stage in STAGES
        if run.record_file(stage).exists()
    }


def renew_record(run: RunDir, stage: Stage) -> None:
    """Update a record after an intended change of the stage's files or inputs."""
    records = stage_records(run)
    if stage in records:
        files = {"input_files": input_digests(run, stage, records), "files": file_states(run, stage)}
        write_json(run.record_file(stage), {**records[stage], **files})


def _has_work(run: RunDir, stage: Stage) -> bool:
    """True if a stopped stage left checkpoints or shards to resume from."""
    shards = run.stage_dir(stage).glob("*/**/*.npy") if stage == "embedding" else ()
    return any(run.checkpoint_dir(stage).glob("*.ckpt")) or any(shards)


def reopen_stage(run: RunDir, stage: Stage) -> None:
    """Mark a finished stage as begun, so that it can go on; the settings stay."""
    with suppress(FileNotFoundError):  # another rank was faster
        os.replace(run.record_file(stage), _partial(run, stage))


def is_first_process() -> bool:
    """True for the one process, of all ranks, that keeps the record; launchers set the rank in the environment."""
    global_rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID")
    if global_rank is not None:
        return global_rank == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))


def _contents(run: RunDir, stage: Stage) -> dict[str, str]:
    """Digests of a stage's input from outside the run: the same command can read another corpus."""
    if stage != "corpus":
        return {}
    manifests = {split: run.manifest_file(split) for split in SPLITS}
    return {
        split: hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
        for split, file in manifests.items()
        if file.exists()
    }


def _seed(settings: Settings) -> int | None:
    """Seed of a stage; None if it has none."""
    seed = settings.get("seed_everything", settings.get("seed"))
    return int(seed) if isinstance(seed, int | float) else None


def _check_unchanged(run: RunDir, stage: Stage, record: dict[str, Any], settings: StageSettings) -> None:
    way_out = f"choose another --run-dir, or remove {run.stage_dir(stage)} (and the stages after it) to make it again"
    changed = changes(record, settings)
    unknown = [name for name in changed if settings.resolved is None and _is_unknown(name, record)]
    if unknown:
        raise InputError(
            "setting.unknown",
            f"the stage {stage} had no setting {', '.join(unknown)} when it was made; is it misspelt?",
            unknown,
        )
    if changed:
        words = ", ".join(f"{name} was {shown(then)}, now {shown(now)}" for name, (then, now) in changed.items())
        raise StaleStageError(
            "run.other-settings",
            f"the stage {stage} in {run.path} was made with other settings: {words}; {way_out}",
            changed,
        )
    inputs = _input_hashes(run, stage)
    other = [name for name, value in record.get("inputs", {}).items() if inputs.get(name) != value]
    if other:
        raise StaleStageError(
            "run.other-inputs",
            f"the stage {stage} in {run.path} was made from another {' and '.join(other)}; {way_out}",
            other,
        )


def _is_unknown(name: str, record: Mapping[str, Any]) -> bool:
    """True for a setting that the recorded stage lacked, and that is not an argument of a recorded class."""
    defaults, then = record.get("defaults") or {}, record.get("settings", {})
    known = {*defaults, *then, *(record.get("resolved") or {})}
    is_of_class = any(f"{name[:end]}.class_path" in known for end in range(len(name)) if name[end] == ".")
    return bool(defaults) and name not in known and not is_of_class


def _partial(run: RunDir, stage: Stage) -> Path:
    file = run.record_file(stage)
    return file.with_name(file.name + ".begun")


def read_record(file: Path, stage: str) -> dict[str, Any]:
    """A stage's record, finished or begun.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        record = read_json_object(file, f"moe-lightning {stage}", {"settings": dict})
        for name in ("defaults", "inputs", "resolved"):
            if not isinstance(record.get(name, {}), dict):
                raise InputError("file.malformed", f'{file}: "{name}" must be an object', name)
        knobs = record.get("knobs", [])
        if not isinstance(knobs, list) or not all(isinstance(name, str) for name in knobs):
            raise InputError("file.malformed", f'{file}: "knobs" must be a list of names', "knobs")
    except InputError as error:
        raise InputError(
            error.code,
            f"{str(error).partition('; run `')[0]}; remove it and run the same command again: what the stage {stage}"
            " has done stays, and is recorded anew",
            error.value,
        ) from error
    return record


def _input_hashes(run: RunDir, stage: Stage) -> dict[str, str]:
    records = {name: run.record_file(name) for name in info(stage).after}
    return {name: read_record(file, name).get("hash", "") for name, file in records.items() if file.exists()}


def _hash(settings: StageSettings, inputs: dict[str, str]) -> str:
    text = json.dumps([decisive_settings(settings.all, settings.knobs), inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


LIBRARIES = ("torch", "lightning", "transformers", "peft", "lhotse", "scikit-learn", "jiwer", "numpy")


def versions() -> dict[str, str]:
    """Versions of this package, Python, and the libraries that results depend on."""
    from importlib import metadata  # takes a tenth of a second

    found = {"moe_lightning": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a checkout beside other packages
            continue
    return found


@cache
def git_revision() -> str | None:
    """Commit of this code's checkout, with ``+`` if files differ from it; None outside a checkout."""
    folder = Path(__file__).parents[1]
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        tracked = _git(folder, "ls-files", "--error-unmatch", str(folder / "__init__.py"))
        is_changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return (commit + ("+" if is_changed else "")) if tracked else None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
