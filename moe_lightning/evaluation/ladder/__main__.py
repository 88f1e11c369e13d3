"""`moe-lightning ladder`: does the mixture beat the alternatives, in all groups, and with which probability?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.evaluation.ladder.rows import CHOICES
from moe_lightning.evaluation.ladder.tuning import check_factors
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.guide import parse as parse_pipeline
from moe_lightning.system.exits import exits_cleanly


def parser() -> CommandParser:
    """Flags of this command; all others belong to the pipeline."""
    parser = CommandParser(
        prog="moe-lightning ladder",
        description="Train and score, on the same utterances and for as many steps: one LoRA of an expert's rank, one"
        " LoRA of equal parameters, a mixture of random clusters, one of hard routing, the mixture, and with"
        " --label-field a mixture of the true groups; and decode the mixture's weights without experts, with all in"
        " equal parts and by the best expert. Every other flag is the pipeline's (moe-lightning pipeline --help). The"
        " same command goes on where it was stopped.",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=CHOICES,
        default=list(CHOICES),
        help="what is trained beside the mixture; lora_equal in any case; default all (label with --label-field)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each system; default 3")
    parser.add_argument("--label-field", metavar="FIELD", help="manifest field of the true groups, for the oracle")
    parser.add_argument(
        "--lr-factors",
        type=float,
        nargs="+",
        default=[0.5, 1.0, 2.0],
        metavar="F",
        help="learning rates tried on the dev split, for the mixture and the LoRA of equal parameters alike, as"
        " multiples of the configs'; default 0.5 1 2; a single 1 tunes nothing",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; default 1")
    parser.add_argument("--num-resamples", type=int, default=10_000, help="draws of the bootstrap; default 10000")
    return parser


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Run the unfinished part of a ladder, score all runs, print the verdict."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(arguments):
        parser().parse_args(["--help"])
    own, flags = parser().parse_known_args(arguments)
    _check(own, flags)
    pipeline = parse_pipeline(flags)  # a misspelt flag fails now, not in the first run
    from moe_lightning.evaluation.ladder.run import run_ladder

    path = pipeline.run_dir if "--run-dir" in flags else Path("lightning_logs") / f"ladder-{pipeline.mode}"
    run_ladder(path, tuple(flags), pipeline, own)


def _check(own: argparse.Namespace, flags: Sequence[str]) -> None:
    if own.seeds < 1 or own.jobs < 1:
        raise InputError(
            "setting.range",
            f"--seeds and --jobs must be at least 1, got {own.seeds} and {own.jobs}",
            f"--seeds {own.seeds} --jobs {own.jobs}",
        )
    check_factors(own.lr_factors)
    for flag in ("--dry-run", "--log-file"):
        if flag in flags:
            raise InputError(
                "setting.unknown", f"{flag} is none of the ladder's flags; give it to `moe-lightning pipeline`", flag
            )


if __name__ == "__main__":
    main()
