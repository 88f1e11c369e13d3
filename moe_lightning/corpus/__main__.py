"""``moe-lightning corpus``: a corpus on disk -> checked manifests in ``<run>/corpus``.

``moe-lightning corpus check DIR`` reports anomalies in a corpus; ``moe-lightning corpus import`` writes
manifests for several runs.
"""

import sys
from pathlib import Path

from moe_lightning.data.utterance import SPLITS
from moe_lightning.errors import InputError
from moe_lightning.run.folder import LEFT_OUT_FILE, RunDir
from moe_lightning.run.record import is_finished, recorded_stage
from moe_lightning.settings.corpus import CorpusCommand, ImportCommand, import_parser, parser, resolved
from moe_lightning.settings.options import from_options
from moe_lightning.system.exits import exits_cleanly


def import_command(arguments: list[str]) -> None:
    """Write a corpus's manifests into a folder, for use as ``--dataset-root``."""
    settings = from_options(ImportCommand, import_parser().parse_args(arguments))
    from moe_lightning.corpus.prepare import prepare_corpus, print_corpus, save_corpus  # scipy: not for --help

    output_dir = Path(settings.output_dir)
    _refuse_taken(output_dir, Path(settings.dataset_root).expanduser())
    corpus = prepare_corpus(settings, output_dir / "audio")
    save_corpus(corpus, output_dir)
    print_corpus(corpus, output_dir)
    if output_dir.absolute() not in corpus.splits["train"][0].audio_file.absolute().parents:
        print(f"{output_dir}: its audio lies elsewhere: use it with --allow-outside-root")


def _refuse_taken(output_dir: Path, root: Path) -> None:
    """Refuse a folder whose files would be overwritten, or hide the corpus in it: it would be read as manifests."""
    if root.exists() and output_dir.absolute() == (root if root.is_dir() else root.parent).absolute():
        raise InputError(
            "folder.taken",
            f"--output-dir {output_dir} is the folder of the corpus itself; give another one",
            output_dir,
        )
    taken = [path for split in SPLITS if (path := output_dir / f"{split}.jsonl.gz").exists()]
    if taken and not (output_dir / LEFT_OUT_FILE).exists():  # not written by an import
        raise InputError("folder.taken", f"{taken[0]} would be overwritten; give another --output-dir", taken[0])


def stage_command(arguments: list[str]) -> None:
    """Prepare the corpus of a run unless finished."""
    options, settings = from_options(CorpusCommand, parser().parse_args(arguments)), resolved(arguments)
    from moe_lightning.corpus.prepare import prepare_corpus, print_corpus, save_corpus  # scipy: not for --help

    run_dir = RunDir(Path(options.run_dir))
    corpus_dir = run_dir.stage_dir("corpus")
    # Prepared before the record begins: a refused corpus leaves no trace.
    is_done = is_finished(run_dir, "corpus", settings)
    corpus = None if is_done else prepare_corpus(options, run_dir.unpacked_audio_dir)
    with recorded_stage(run_dir, "corpus", settings):
        if corpus:
            save_corpus(corpus, corpus_dir)
            print_corpus(corpus, corpus_dir)


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Entry of ``moe-lightning corpus``, ``corpus check`` and ``corpus import``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["check"]:
        from moe_lightning.corpus.checking.command import check_command  # scipy: not for --help

        check_command(arguments[1:])
    elif arguments[:1] == ["import"]:
        import_command(arguments[1:])
    else:
        stage_command(arguments)


if __name__ == "__main__":
    main()
