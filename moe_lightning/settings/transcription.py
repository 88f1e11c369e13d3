"""Settings of `moe-lightning transcribe`."""

from dataclasses import dataclass
from pathlib import Path

from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.evaluation import BEAMS, GUARD, PRECISION, ROUTING
from moe_lightning.settings.options import build_parser, option


@dataclass(frozen=True)
class TranscriptionSettings:
    """All settings of the command, besides its files."""

    run_dir: Path | None = option(None, "folder of the run; default: the newest in lightning_logs", metavar="DIR")
    language: str = option("auto", "of the files, such as en; auto: a multilingual Whisper detects it", metavar="CODE")
    same_speaker: bool = option(
        False, "one person speaks in all files: the gate reads them all before it chooses experts"
    )
    window: str | None = option(
        None, "seconds that the model reads at least, auto or real; default: as trained", metavar="W"
    )
    routing: str | None = option(None, ROUTING, metavar="MODE")
    num_beams: int = option(1, BEAMS)
    no_guard: bool = option(False, GUARD)
    accelerator: str = option("auto", "auto, cpu or gpu")
    precision: str = option("32-true", PRECISION)


def parser() -> CommandParser:
    """Flags of the command."""
    words = "Transcribe audio files with a finished run: one line per file with name, language and text."
    parser = build_parser(TranscriptionSettings, "moe-lightning transcribe", words)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3")
    return parser
