"""`moe-lightning verify`: all checks of a run, stage by stage; for a ladder, of all its runs."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from moe_lightning.errors import MissingInputError
from moe_lightning.run.finding import (
    Digest,
    Finding,
    Records,
    check_files,
    check_inputs_of,
    check_whole_training,
    read_records,
)
from moe_lightning.run.folder import RunDir
from moe_lightning.run.outputs import digest
from moe_lightning.run.stages import STAGES, Stage, info
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.system.exits import exits_cleanly


class Verified(NamedTuple):
    """Result of the checks for one stage of a run."""

    run: RunDir
    stage: Stage
    state: str
    """``finished``, ``begun``, or ``not begun``."""
    record: dict[str, Any]
    """Empty for an unfinished stage."""
    findings: list[Finding]

    @property
    def num_bytes(self) -> int:
        """Size of all files in the record."""
        return sum(state["bytes"] for state in self.record.get("files", {}).values())


def runs_of(path: Path) -> list[RunDir]:
    """The run in a folder, or the runs of a ladder.

    Raises:
        MissingInputError: The folder holds neither.
    """
    if any(RunDir(path).record_file(stage).exists() for stage in STAGES):
        return [RunDir(path)]
    found = sorted({file.parents[1] for file in path.glob("runs/*/*/*/*/stage.json")})
    if not found:
        raise MissingInputError(
            "run.missing",
            f"{path} holds no finished stage of a run, and no runs of a ladder; give the --run-dir of"
            " `moe-lightning pipeline` or `moe-lightning ladder`",
            path,
        )
    return [RunDir(folder) for folder in found]


def verify(path: Path) -> Iterator[Verified]:
    """Check every stage of the run, or of each run of the ladder, in a folder."""
    hashed = _remembering(digest)
    for run in runs_of(path):
        records, unreadable = read_records(run)
        for stage in STAGES:
            findings = [one for one in unreadable if one.stage == stage]
            if stage in records:
                found = chain(
                    check_whole_training(run, stage, records[stage]),
                    check_files(run, stage, records, hashed),
                    check_inputs_of(run, stage, records),
                )
                findings += _each_file_once(chain(found, info(stage).function("verify")(run)))
            begun = run.record_file(stage).with_name("stage.json.begun")
            state = "finished" if stage in records else "begun" if begun.exists() else "not begun"
            yield Verified(run, stage, state, records.get(stage, {}), findings)
            if stage == "experts":
                yield from _trained_alone(run, records, hashed)


def _trained_alone(run: RunDir, records: Records, hashed: Digest) -> Iterator[Verified]:
    """Check jobs that trained one expert each, by their records."""
    for expert in run.experts_alone():
        own = RunDir(run.path, expert)
        alone, findings = read_records(own)
        if "experts" in alone:
            together = {**records, "experts": alone["experts"]}
            findings += check_whole_training(own, "experts", alone["experts"])
            findings += check_files(own, "experts", together, hashed)
            findings += check_inputs_of(own, "experts", together)
        yield Verified(own, "experts", "finished", alone.get("experts", {}), findings)


def _each_file_once(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Keep each file's first finding: a file that is cut off cannot be loaded either."""
    seen = set()
    for finding in findings:
        if finding.file not in seen:
            seen.add(finding.file)
            yield finding


def _remembering(function: Callable[[Path], str]) -> Digest:
    """Compute the digest of each file once, even if several runs share it through links."""
    known: dict[Path, str] = {}

    def remembered(path: Path) -> str:
        real = path.resolve()
        if real not in known:
            known[real] = function(path)
        return known[real]

    return remembered


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="moe-lightning verify",
        description="Check every stage's record against the files on disk and against the stages before it, recordings,"
        " embeddings, labels and weights for what they must be, and the report against its transcripts. Ends with 0"
        " where all is well, with 1 after naming each file, the rule that it breaks and the command that mends it.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a run, or of a ladder")
    return parser


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Check a run or a ladder, print a table, exit with 1 after any finding."""
    path = parser().parse_args(sys.argv[1:] if argv is None else list(argv)).run_dir
    verified = list(verify(path))
    _print(verified, path)
    lines = list(dict.fromkeys(finding.line() for one in verified for finding in one.findings))
    for line in lines:
        print(f"wrong: {line}", file=sys.stderr)
    if lines:
        sys.exit(1)


def _print(verified: Sequence[Verified], path: Path) -> None:
    has_several = len({one.run.path for one in verified}) > 1
    table = Table(*(["run"] if has_several else []), "stage", "state", "files", "MB", "seed", "revision", "verdict")
    for one in verified:
        name = one.stage if one.run.expert is None else f"expert {one.run.expert} alone"
        cells = [name, one.state, *_facts(one), _verdict(one)]
        table.add_row(*([str(one.run.path.relative_to(path))] if has_several else []), *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _facts(one: Verified) -> list[str]:
    if "files" not in one.record:
        return ["", "", "", ""]
    seed, revision = one.record.get("seed"), one.record.get("revision")
    num_files = len(one.record["files"])
    return [str(num_files), f"{one.num_bytes / 1e6:.1f}", "" if seed is None else str(seed), revision or ""]


def _verdict(one: Verified) -> str:
    if one.findings:
        return f"{len(one.findings)} wrong"
    if one.state != "finished":
        return ""
    return "as made" if "files" in one.record else "of an older version: no digests, contents are sound"


if __name__ == "__main__":
    main()
