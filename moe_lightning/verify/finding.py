"""A problem with a run: a file, the rule it breaks, and the remedy."""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from moe_lightning.run_dir import RunDir, Stage


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
