"""``moe-lightning corpus``: a corpus on disk -> checked manifests in ``<run>/corpus``.

``moe-lightning corpus check DIR`` reports anomalies in a corpus; ``moe-lightning corpus import`` writes
manifests for several runs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.command_line import CommandParser
from moe_lightning.corpus.checking.command import check_command
from moe_lightning.corpus.flags import add_corpus_flags, corpus_settings
from moe_lightning.corpus.prepare import prepare_corpus, print_corpus, save_corpus
from moe_lightning.errors import exits_cleanly
from moe_lightning.run_dir import RunDir
from moe_lightning.stage_record import is_finished, recorded_stage
from moe_lightning.stage_settings import StageSettings, parser_settings


def build_parser() -> CommandParser:
    """Flags of the stage."""
    parser = CommandParser(prog="moe-lightning corpus", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="the run; it gets DIR/corpus")
    add_corpus_flags(parser)
    return parser


def settings_of(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line."""
    parser = build_parser()
    return parser_settings(parser, vars(parser.parse_args(arguments)), arguments)


def import_command(arguments: list[str]) -> None:
    """Write a corpus's manifests into a folder, for use as ``--dataset-root``."""
    parser = CommandParser(prog="moe-lightning corpus import", description=import_command.__doc__)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="gets train.jsonl.gz ...")
    add_corpus_flags(parser)
    options = parser.parse_args(arguments)
    corpus = prepare_corpus(corpus_settings(options), options.output_dir / "audio")
    save_corpus(corpus, options.output_dir)
    print_corpus(corpus, options.output_dir)
    if options.output_dir.absolute() not in corpus.splits["train"][0].audio_file.absolute().parents:
        print(f"{options.output_dir}: its audio lies elsewhere: use it with --allow-outside-root")


def stage_command(arguments: list[str]) -> None:
    """Prepare the corpus of a run unless finished."""
    options = build_parser().parse_args(arguments)
    run_dir, settings = RunDir(options.run_dir), settings_of(arguments)
    corpus_dir = run_dir.stage_dir("corpus")
    # Prepared before the record begins: a refused corpus leaves no trace.
    is_done = is_finished(run_dir, "corpus", settings)
    corpus = None if is_done else prepare_corpus(corpus_settings(options), run_dir.unpacked_audio_dir)
    with recorded_stage(run_dir, "corpus", settings):
        if corpus:
            save_corpus(corpus, corpus_dir)
            print_corpus(corpus, corpus_dir)


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Entry of ``moe-lightning corpus``, ``corpus check`` and ``corpus import``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {"check": check_command, "import": import_command}
    if arguments and arguments[0] in commands:
        commands[arguments[0]](arguments[1:])
    else:
        stage_command(arguments)


if __name__ == "__main__":
    main()
