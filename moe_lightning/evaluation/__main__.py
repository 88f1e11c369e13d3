"""`moe-lightning evaluate`: word error rates of a finished run on its test split."""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.command_line import CommandParser
from moe_lightning.errors import exits_cleanly
from moe_lightning.run_dir import RunDir
from moe_lightning.stage_record import command_settings, recorded_stage


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(prog="moe-lightning evaluate", description=__doc__, takes_config=True)
    parser.add_argument("--run-dir", default="lightning_logs/full", help="folder of the run")
    parser.add_argument("--batch-size", type=int, default=16, help="utterances of a batch")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that read audio")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    return parser


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a run unless that is done."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse(arguments)
    run = RunDir(Path(options.run_dir))
    with recorded_stage(run, "evaluation", command_settings(arguments), parser().defaults) as has_work:
        if has_work:
            from moe_lightning.evaluation.evaluate import evaluate  # torch: not for --help

            evaluate(run, options.batch_size, options.num_workers, options.accelerator)


if __name__ == "__main__":
    main()
