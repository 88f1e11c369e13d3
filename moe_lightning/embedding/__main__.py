"""`moe-lightning embed`: manifests of a run -> its embedding store."""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.data.embedding_store import is_whole_store
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import is_finished, recorded_stage, reopen_stage
from moe_lightning.settings.embedding import EmbeddingSettings, parser, resolved
from moe_lightning.settings.options import from_options
from moe_lightning.system.exits import exits_cleanly


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Embed a run's utterances unless finished; lost parts of a finished store are embedded again."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = from_options(EmbeddingSettings, parser().parse(arguments))
    run = RunDir(Path(options.run_dir))
    settings = resolved(arguments)
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
