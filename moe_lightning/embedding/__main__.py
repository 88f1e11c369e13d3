"""`moe-lightning embed`: manifests of a run -> its embedding store."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from moe_lightning.command_line import CommandParser
from moe_lightning.errors import exits_cleanly
from moe_lightning.run_dir import RunDir
from moe_lightning.stage_record import is_finished, recorded_stage, reopen_stage
from moe_lightning.stage_settings import StageSettings, parser_settings
from moe_lightning.store.embedding_store import GRADIENTS_DIR, Pooling, is_whole_store


def parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(prog="moe-lightning embed", description=__doc__, takes_config=True)
    parser.add_argument("--run-dir", default="lightning_logs/full", help="folder of the run")
    parser.add_argument("--whisper-model", default="v2", help="v2, v3, nano, a hub id or a folder")
    parser.add_argument("--pooling", choices=get_args(Pooling), default="mean", help="how frames become one vector")
    parser.add_argument(
        "--window",
        default="auto",
        help="what the encoder reads at least: auto (what the model was trained with: 30 s for Whisper), real (real"
        " lengths), or seconds; only real frames are pooled",
    )
    parser.add_argument(
        "--language",
        default="auto",
        help="language of utterances whose manifest names none, such as en; auto: a multilingual Whisper detects it",
    )
    parser.add_argument("--embedding-layer", default="last", metavar="L[,L...]", help="encoder layers, joined")
    parser.add_argument(
        "--store", choices=("pooled", "frames"), default="pooled", help="frames: keep the frames as well"
    )
    parser.add_argument("--frames-dtype", choices=("float16", "float32"), default="float16", help="of stored frames")
    parser.add_argument(
        "--gradients", action="store_true", help="what training would change, too, for cluster --reduce gradients"
    )
    parser.add_argument("--shard-size", type=int, default=4096, help="utterances of a file, at most")
    parser.add_argument("--batch-size", type=int, default=256, help="utterances of a batch, at most")
    parser.add_argument("--max-seconds", type=float, help="of audio in a batch, at most; default by device")
    parser.add_argument("--num-workers", type=int, default=2, help="processes that read audio")
    parser.add_argument("--accelerator", default="auto", help="of the Lightning Trainer, like those below")
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--num-nodes", type=int, default=1)
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--deterministic", action="store_true", help="the same bits each time on a GPU too; slower")
    return parser


def settings_of(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line."""
    return parser_settings(parser(), vars(parser().parse(arguments)), arguments)


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Embed a run's utterances unless finished; lost parts of a finished store are embedded again."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse(arguments)
    run = RunDir(Path(options.run_dir))
    settings = settings_of(arguments)
    if is_finished(run, "embedding", settings):
        folder = run.embedding_dir(options.whisper_model)
        if not is_whole_store(folder) or (options.gradients and not is_whole_store(folder / GRADIENTS_DIR)):
            reopen_stage(run, "embedding")
    with recorded_stage(run, "embedding", settings) as has_work:
        if has_work:
            from moe_lightning.embedding.embed import embed  # torch: not for --help

            embed(options)


if __name__ == "__main__":
    main()
