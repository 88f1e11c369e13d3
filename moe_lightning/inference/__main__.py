"""`moe-lightning transcribe FILE...`: transcribe audio files with a finished run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.errors import InputError, MissingInputError, printable
from moe_lightning.run.folder import LOGS_DIR, RunDir
from moe_lightning.settings.transcription import parser
from moe_lightning.system.exits import exits_cleanly


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per file: name, language and text, separated by tabs; exit code 1 if a file failed."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    from moe_lightning.inference.recognizer import Recognizer, existing  # torch: not for --help

    if not any(Path(file).is_file() for file in options.files):
        existing(options.files)  # names the first, before a model is loaded
    run_dir = options.run_dir or newest_run().path
    recognizer = Recognizer(run_dir, options.accelerator, options.precision, options.routing, options.window)
    failed: dict[Path, InputError] = {}
    found = recognizer.transcribe_all(
        options.files, options.language, options.same_speaker, not options.no_guard, options.num_beams, failed
    )
    for transcript in found:
        line = (transcript.audio_file, transcript.language or "-", transcript.text)
        print("\t".join(printable(part) for part in line), flush=True)
    for error in failed.values():
        print(f"error: {printable(error)} [{error.code}]", file=sys.stderr)
    if failed:
        sys.exit(1)


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
