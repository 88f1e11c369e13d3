"""Findings of `moe-lightning verify`, and the checks by a stage's record: files, inputs, a whole training."""

import os
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.run.outputs import digest, input_digests, owners, stage_files
from moe_lightning.run.stages import STAGES, Stage
from moe_lightning.settings.comparison import was_cut_short
from moe_lightning.system.json_files import read_json_object
from moe_lightning.system.plain_files import refuse_special


class Finding(NamedTuple):
    """One broken rule."""

    stage: Stage
    file: Path
    rule: str
    """The problem, in words that follow the file's name."""
    way_out: str
    """Command that fixes it."""

    def line(self) -> str:
        """One printable line, like an error; the run may come from somebody else."""
        words = " ".join(f"{self.file}: {self.rule}; {self.way_out}".split())
        return "".join(letter if letter.isprintable() else "?" for letter in words)


def make_again(run: RunDir, stage: Stage) -> str:
    """Instructions to make a stage again, with the command that made it."""
    folder = run.stage_dir(stage)
    link = f" (shared, a link to {os.path.realpath(folder)})" if folder.is_symlink() else ""
    remove = shlex.join(["rm", "-r", os.path.realpath(folder)])
    return f"to make it again{link}: {remove}, then {stage_command(run, stage)}"


def stage_command(run: RunDir, stage: Stage) -> str:
    """Command from the run's log that made a stage, adapted to the run's present folder; else a general command."""
    begins = f"python -m moe_lightning.{stage} "
    try:
        lines = run.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    typed = [line[line.index(begins) :] for line in lines if begins in line]
    if not typed:
        return f"the `moe-lightning pipeline` command of {run.path}"
    return _moved(typed[-1], _path_then(lines), str(run.path))


def _path_then(lines: list[str]) -> str | None:
    """Folder of the run when its log was written; None without a stage command in the log."""
    found = [match[1] for line in lines if (match := re.search(r"python -m moe_lightning\..*--run[-_]dir (\S+)", line))]
    return found[-1] if found else None


def _moved(line: str, then: str | None, now: str) -> str:
    """A command line with the run's files at their present place."""
    if then is None or then == now:
        return line
    words = line.split(" ")
    return " ".join(now + word[len(then) :] if word == then or word.startswith(f"{then}/") else word for word in words)


Records = Mapping[Stage, Mapping[str, Any]]
Digest = Callable[[Path], str]


def read_records(run: RunDir) -> tuple[dict[Stage, dict[str, Any]], list[Finding]]:
    """Records of the finished stages; unreadable ones are findings."""
    records: dict[Stage, dict[str, Any]] = {}
    findings = []
    for stage in STAGES:
        file = run.record_file(stage)
        if not file.exists():
            continue
        try:
            record = read_json_object(file, f"moe-lightning {stage}", {"settings": dict})
        except InputError:
            record = {"files": None}
        if _is_record(record):
            records[stage] = record
        else:
            findings.append(Finding(stage, file, "is no record of a stage", make_again(run, stage)))
    return records, findings


def check_files(run: RunDir, stage: Stage, records: Records, hashed: Digest = digest) -> Iterator[Finding]:
    """Files that are missing, changed, cut off, or unknown to the stage.

    Args:
        hashed: Digest of a file; with a cache, files shared by several runs are read once.
    """
    if "files" not in records[stage]:
        return
    way_out = make_again(run, stage)
    for name, then in records[stage]["files"].items():
        if _is_anothers(run, stage, name, records):
            continue
        rule = _change(run.path / name, then, hashed)
        if rule:
            yield Finding(stage, run.path / name, rule, way_out)
    known = owners(records)
    for name, path in stage_files(run, stage).items():
        if name not in known and not run.stage_dir(stage).is_symlink() and not _is_of_a_training(run, name):
            rule = "is not of this run: no stage has written it"
            yield Finding(stage, path, rule, f"move it away, or {way_out}")


def check_whole_training(run: RunDir, stage: Stage, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that a stage is from a full training: debug runs leave no record now, but an older version wrote one."""
    if words := was_cut_short(record):
        rule = f"is of a debug run, cut short by {words}"
        folder = shlex.quote(os.path.realpath(run.stage_dir(stage)))
        yield Finding(stage, run.record_file(stage), rule, f"rm -r {folder}, then train without those settings")


def check_inputs_of(run: RunDir, stage: Stage, records: Records) -> Iterator[Finding]:
    """Check that a stage was made from the present files of its input stages."""
    then = records[stage].get("input_files")
    if then is None:
        return
    now = {
        before: _without_added(files, then.get(before, {}))
        for before, files in input_digests(run, stage, records).items()
    }
    for before, files in then.items():
        if before not in now:
            rule = f"is made from the stage {before}, which is not there"
            yield Finding(stage, run.record_file(stage), rule, make_again(run, before))
        elif "files" in records[before] and files != now[before]:
            odd = sorted(name for name in {*files, *now[before]} if files.get(name) != now[before].get(name))
            rule = f"is made from another {before} than is there now: {odd[0]} was made anew since"
            yield Finding(stage, run.record_file(stage), rule, make_again(run, stage))


def _without_added(now: dict[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Leave out gradients added to the embeddings later: an earlier stage has not read them."""
    return {name: sha256 for name, sha256 in now.items() if name in then or GRADIENTS_DIR not in Path(name).parts}


def _is_record(record: Mapping[str, Any]) -> bool:
    """True if any digests in a record have our format; the record may come from somebody else."""
    files, inputs = record.get("files", {}), record.get("input_files", {})
    return (
        isinstance(files, dict)
        and all(
            isinstance(one, dict) and isinstance(one.get("bytes"), int) and "sha256" in one for one in files.values()
        )
        and isinstance(inputs, dict)
        and all(isinstance(one, dict) and stage in STAGES for stage, one in inputs.items())
    )


def _is_anothers(run: RunDir, stage: Stage, name: str, records: Records) -> bool:
    """True if a later stage now owns a file, or it lies outside a folder shared by runs."""
    if owners(records)[name] != stage or _is_of_a_training(run, name):
        return True
    folder = run.stage_dir(stage)
    return folder.is_symlink() and not (run.path / name).is_relative_to(folder)


def _is_of_a_training(run: RunDir, name: str) -> bool:
    """True if a file lies where a joint training may be writing now."""
    begun = run.record_file("moe").with_name("stage.json.begun")
    return begun.exists() and (run.path / name).is_relative_to(run.stage_dir("moe"))


def _change(path: Path, then: Mapping[str, Any], hashed: Digest) -> str:
    """Description of a file's change; "" if it is unchanged."""
    try:
        refuse_special(path)
        size = path.stat().st_size
        if size < then["bytes"]:
            return f"is cut off: it has {size} bytes, its stage wrote {then['bytes']}"
        if hashed(path) != then["sha256"]:
            return "has changed since its stage wrote it (SHA-256)"
    except FileNotFoundError:
        return "is missing"
    except (OSError, EOFError, zlib.error, InputError) as error:
        return f"cannot be read ({error})"
    return ""
