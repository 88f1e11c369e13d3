"""``python -m moe_lightning.clustering``, the same as ``moe-lightning cluster``; ``... predict`` labels new audio."""

import sys
from collections.abc import Sequence

from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import recorded_stage
from moe_lightning.settings.clustering import ClusteringSettings, parse, resolved
from moe_lightning.system.exits import exits_cleanly


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Fit a clustering, or label a store with a fitted one."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["predict"]:
        from moe_lightning.clustering.predict import predict

        predict(arguments[1:])
        return
    settings, warnings = parse(arguments)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from moe_lightning.clustering.stage import run  # scipy: not for --help

    named = RunDir(settings.output_dir.parent)
    if not _is_stage_of_run(settings, named):
        run(settings)
        return
    with recorded_stage(named, "clustering", resolved(arguments)) as has_work:
        if has_work:
            run(settings)


def _is_stage_of_run(settings: ClusteringSettings, named: RunDir) -> bool:
    return settings.output_dir == named.stage_dir("clustering") and named.record_file("embedding").exists()


if __name__ == "__main__":
    main()
