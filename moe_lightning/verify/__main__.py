"""`moe-lightning verify`: check that a run, or every run of a ladder, is unchanged since its stages wrote it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from moe_lightning.command_line import CommandParser
from moe_lightning.errors import exits_cleanly
from moe_lightning.verify.checks import Verified, verify


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
