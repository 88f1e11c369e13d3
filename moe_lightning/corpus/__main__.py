"""``moe-lightning corpus``: a corpus on disk -> checked manifests in ``<run>/corpus``."""

import sys
from pathlib import Path

from moe_lightning.corpus.prepare import DEMO, CorpusSettings, PreparedCorpus, prepare_corpus, save_corpus
from moe_lightning.corpus.readers import LAYOUTS
from moe_lightning.errors import CommandParser, exits_cleanly
from moe_lightning.run_dir import SPLITS, RunDir
from moe_lightning.stage_record import command_settings, is_finished, recorded_stage


def parse(argv: list[str] | None = None) -> CorpusSettings:
    """The command line as settings."""
    parser = CommandParser(prog="moe-lightning corpus", description=__doc__)
    parser.add_argument(
        "--dataset-root", default="Data/extracted_data", metavar="PATH",
        help=f"a corpus folder, a .jsonl manifest, a prefix of manifests, or '{DEMO}'",
    )  # fmt: skip
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="the run; it gets DIR/corpus")
    parser.add_argument(
        "--allow-shared-speakers",
        action="store_true",
        help="accept speakers who are in two splits",
    )
    parser.add_argument("--skip-bad-audio", action="store_true", help="list faulty recordings and leave them out")
    parser.add_argument(
        "--data-percent", type=float, default=100.0, metavar="P",
        help="use P %% of each split, in proportion by the field etiology where there is one",
    )  # fmt: skip
    parser.add_argument(
        "--max-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="a handful of each split"
    )
    parser.add_argument(
        "--layout",
        choices=("auto", *LAYOUTS),
        default="auto",
        help="insist on a form of corpus; auto sees what is there",
    )
    parser.add_argument(
        "--stratify",
        metavar="FIELD",
        help="keep the shares of this field's values in splits and samples (default: etiology)",
    )
    parser.add_argument("--seed", type=int, default=42, help="of splits and samples")
    parser.add_argument(
        "--num-workers", type=int, metavar="N", help="recordings checked at a time (default: twice the cores)"
    )
    parser.add_argument("--demo-seed", type=int, default=0, help="another demo corpus")
    parser.add_argument(
        "--demo-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="size of the demo corpus"
    )
    values = vars(parser.parse_args(argv))
    for name in ("max_utterances", "demo_utterances"):
        values[name] = tuple(values[name]) if values[name] else None
    return CorpusSettings(**values)


def _print_summary(corpus: PreparedCorpus, run_dir: RunDir) -> None:
    from rich.console import Console
    from rich.table import Table

    for warning in corpus.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    faults = sum(one.is_fault for one in corpus.left_out)
    if corpus.left_out:
        long = len(corpus.left_out) - faults
        print(f"left out: {faults} faulty, {long} over 30 s; listed in {run_dir.left_out_file}")
    table = Table("split", *(("utterances", "speakers", "hours")))
    for split in SPLITS:
        utterances = corpus.splits[split]
        hours = sum(one.duration for one in utterances) / 3600
        table.add_row(split, f"{len(utterances):,}", f"{len({one.speaker for one in utterances}):,}", f"{hours:.3f}")
    Console().print(table)


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Prepare the corpus of a run unless that is done."""
    arguments = sys.argv[1:] if argv is None else argv
    settings = parse(arguments)
    run_dir, record = RunDir(settings.run_dir), command_settings(arguments)
    # Prepared before the record begins: a corpus that is refused leaves no trace, so the next try may have other flags.
    corpus = None if is_finished(run_dir, "corpus", record) else prepare_corpus(settings)
    with recorded_stage(run_dir, "corpus", record):
        if corpus:
            save_corpus(corpus, settings.run_dir)
            _print_summary(corpus, run_dir)


if __name__ == "__main__":
    main()
