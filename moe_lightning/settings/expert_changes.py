"""Flags of `moe-lightning experts add | drop | merge | join`: change the experts of a finished run.

`add`, `drop` and `merge` make a new run in `--output-dir` and leave the original run unchanged. The new
run holds the inputs of `transcribe`, `evaluate` and the joint stage: `--to-train` leaves that stage open,
so that `moe fit` trains gate and experts further (before that, an added expert is not chosen). `join`
puts the experts from single-expert jobs of a run into one file of that run.
"""

import argparse
from pathlib import Path

from moe_lightning.settings.command_line import CommandParser

COMMANDS = ("add", "drop", "merge", "join")
UNCHOSEN = -30.0
"""Logit of an expert that the gate has not learned yet: a probability of about 1e-13."""


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="moe-lightning experts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("change", choices=COMMANDS)
    parser.add_argument("experts", nargs="*", type=int, metavar="EXPERT", help="drop K; merge K L")
    parser.add_argument("--run-dir", type=Path, required=True, help="the run to start from")
    parser.add_argument("--output-dir", type=Path, help="the run to make; add, drop and merge need it")
    parser.add_argument("--like", type=int, metavar="K", help="add: start from this expert's deltas, not from zero")
    parser.add_argument("--gate-bias", type=float, default=UNCHOSEN, help=f"add: its logit; default {UNCHOSEN:g}")
    parser.add_argument("--share", type=float, default=0.5, help="merge: weight of the first; default 0.5")
    parser.add_argument("--to-train", action="store_true", help="leave the joint stage open, to be trained further")
    return parser
