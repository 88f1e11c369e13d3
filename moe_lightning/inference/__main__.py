"""`moe-lightning transcribe FILE...`: transcribe audio files with a finished run."""

import sys
from collections.abc import Sequence

from moe_lightning.errors import MissingInputError, printable
from moe_lightning.run.folder import LOGS_DIR, RunDir
from moe_lightning.settings.transcription import parser
from moe_lightning.system.exits import exits_cleanly


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per file: name, language and text, separated by tabs."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    from moe_lightning.inference.recognizer import Recognizer, existing  # torch: not for --help

    existing(options.files)
    run_dir = options.run_dir or newest_run().path
    recognizer = Recognizer(run_dir, options.accelerator, options.precision, options.routing, options.window)
    found = recognizer.transcribe_all(
        options.files, options.language, options.same_speaker, not options.no_guard, options.num_beams
    )
    for transcript in found:
        line = (transcript.audio_file, transcript.language or "-", transcript.text)
        print("\t".join(printable(part) for part in line), flush=True)


def newest_run() -> RunDir:
    """The run in ``lightning_logs`` with the newest mixture."""
    runs = [RunDir(folder) for folder in LOGS_DIR.glob("*")]
    finished = [run for run in runs if run.mixture_config_file.exists()]
    if not finished:
        raise MissingInputError(
            "run.missing",
            f"no finished run in {LOGS_DIR}; run `moe-lightning pipeline` first, or give --run-dir",
            LOGS_DIR,
        )
    return max(finished, key=lambda run: run.mixture_config_file.stat().st_mtime)


if __name__ == "__main__":
    main()
