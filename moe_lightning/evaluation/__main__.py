"""`moe-lightning evaluate`: word error rates of a finished run on its test split, and the report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from moe_lightning.command_line import CommandParser
from moe_lightning.errors import InputError, StaleStageError, exits_cleanly
from moe_lightning.evaluation.system_names import GateBy, check_systems
from moe_lightning.run_dir import RunDir
from moe_lightning.stage_record import check_inputs, recorded_stage
from moe_lightning.stage_settings import StageSettings, parser_settings


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(prog="moe-lightning evaluate", description=__doc__, takes_config=True)
    parser.add_argument("--run-dir", default="lightning_logs/full", help="folder of the run")
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="what is scored; dev (for tuning) goes to report/dev"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="utterances of a batch")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that read audio")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    parser.add_argument(
        "--systems",
        default="backbone,mixture",
        metavar="NAMES",
        help="what is decoded, joined by commas: backbone, mixture, uniform (all experts in equal parts), best_expert"
        " (of all experts' transcripts the best one, an oracle), label (the true group's expert, an oracle of runs"
        " clustered by a field), utterance_gate (the mixture, its gate hearing each utterance alone); default"
        " backbone,mixture",
    )
    parser.add_argument(
        "--routing",
        metavar="MODE",
        help="decode the mixture by merge, top_k, hard, posterior, confidence or loss, with the same weights and top_k;"
        " default: as it was trained",
    )
    parser.add_argument(
        "--gate-by",
        choices=get_args(GateBy),
        default="auto",
        help="what the gate hears before it chooses: each utterance alone, or all of its speaker; default auto: as the"
        " clusters were made, of speakers (--pool-speakers) or of utterances",
    )
    parser.add_argument(
        "--num-beams", type=int, default=1, help="hypotheses that a CTC model keeps; default 1, the likeliest path"
    )
    parser.add_argument(
        "--window",
        help="decode the mixture over another window than it was trained with: auto, real or seconds; the bare backbone"
        " always reads its own",
    )
    parser.add_argument(
        "--precision", default="32-true", help="32-true, bf16-mixed (also on a CPU), or 16-mixed; default 32-true"
    )
    parser.add_argument(
        "--no-guard",
        action="store_true",
        help="let texts run on in loops, and write words for silence and noise too: decode as transformers does, token"
        " for token",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="decode to the same bits each time on a GPU too; slower"
    )
    scores = parser.add_argument_group("scores")
    scores.add_argument(
        "--by", nargs="+", metavar="FIELD", help="manifest fields to score by; default: those that make groups"
    )
    scores.add_argument(
        "--normaliser",
        choices=("auto", "basic", "english"),
        default="auto",
        help="of the texts: Whisper's English one (spellings, contractions, numbers), Whisper's basic one for any"
        " language, or by the language of each utterance (auto, the default)",
    )
    scores.add_argument("--num-resamples", type=int, default=10_000, help="draws of the bootstrap; default 10000")
    scores.add_argument("--seed", type=int, default=42, help="of the draws; default 42")
    scores.add_argument(
        "--rescore", action="store_true", help="score again what was decoded before, with the flags of this group"
    )
    return parser


def settings_of(arguments: Sequence[str]) -> StageSettings:
    """Settings from a command line."""
    return parser_settings(parser(), vars(parser().parse(arguments)), arguments)


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a run unless the stage is finished."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse(arguments)
    run = RunDir(Path(options.run_dir))
    if options.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {options.batch_size}")
    from moe_lightning.evaluation.evaluate import DecodeSettings, evaluate, rescore  # seconds: not for --help
    from moe_lightning.evaluation.systems import ScoreSettings

    scoring = ScoreSettings(options.num_resamples, options.seed, tuple(options.by or ()), options.normaliser)
    systems = tuple(options.systems.split(","))
    check_systems(systems)
    of_work = (options.batch_size, options.num_workers, options.accelerator)
    how = (options.routing, options.num_beams, options.gate_by, options.deterministic)
    decoding = DecodeSettings(*of_work, systems, *how, options.window, options.precision, guard=not options.no_guard)
    if options.rescore:
        rescore(run, options.split, scoring)
    elif options.split == "dev":  # for tuning: as often as one likes
        check_inputs(run, "evaluation")
        evaluate(run, options.split, decoding, scoring)
    else:
        try:
            with recorded_stage(run, "evaluation", settings_of(arguments)) as has_work:
                if has_work:
                    evaluate(run, options.split, decoding, scoring)
        except StaleStageError as error:
            raise StaleStageError(f"{error}; or score what was decoded before with --rescore") from error


if __name__ == "__main__":
    main()
