"""`moe-lightning transcribe FILE...`: transcribe audio files with a finished run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.command_line import CommandParser
from moe_lightning.errors import MissingInputError, exits_cleanly, printable
from moe_lightning.run_dir import LOGS_DIR, RunDir


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(prog="moe-lightning transcribe", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3")
    parser.add_argument("--run-dir", type=Path, help=f"folder of the run; default: the newest in {LOGS_DIR}")
    parser.add_argument(
        "--language",
        default="auto",
        help="language of the files, such as en; default auto: a multilingual Whisper detects it, file by file",
    )
    parser.add_argument(
        "--window",
        help="seconds that the model reads at least, auto or real; default: as the mixture was trained",
    )
    parser.add_argument(
        "--same-speaker",
        action="store_true",
        help="one person speaks in all files: the gate hears them all before it chooses experts",
    )
    parser.add_argument(
        "--num-beams", type=int, default=1, help="hypotheses that a CTC model keeps; default 1, the likeliest path"
    )
    parser.add_argument(
        "--routing",
        metavar="MODE",
        help="merge, top_k, hard, posterior, confidence or loss, with the same weights and top_k; default: as the"
        " mixture was trained",
    )
    parser.add_argument(
        "--no-guard",
        action="store_true",
        help="let a text run on in a loop, and write words for silence and noise too: decode as transformers does",
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu; default auto")
    parser.add_argument(
        "--precision", default="32-true", help="32-true, bf16-mixed (also on a CPU), or 16-mixed; default 32-true"
    )
    return parser


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per file: name, language and text, separated by tabs."""
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    from moe_lightning.inference.recognizer import Recognizer, existing  # torch: not for --help

    existing(options.files)
    run_dir = options.run_dir or newest_run().path
    recognizer = Recognizer(run_dir, options.accelerator, options.precision, options.routing, options.window)
    recognizer.mixture.experts.backbone.search(options.num_beams)
    found = recognizer.transcribe_all(options.files, options.language, options.same_speaker, not options.no_guard)
    for transcript in found:
        line = (transcript.audio_file, transcript.language or "-", transcript.text)
        print("\t".join(printable(part) for part in line), flush=True)


def newest_run() -> RunDir:
    """The run in ``lightning_logs`` with the newest mixture."""
    runs = [RunDir(folder) for folder in LOGS_DIR.glob("*")]
    finished = [run for run in runs if run.mixture_config_file.exists()]
    if not finished:
        raise MissingInputError(f"no finished run in {LOGS_DIR}; run `moe-lightning pipeline` first, or give --run-dir")
    return max(finished, key=lambda run: run.mixture_config_file.stat().st_mtime)


if __name__ == "__main__":
    main()
