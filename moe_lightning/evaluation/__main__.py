"""`moe-lightning evaluate`: word error rates of a finished run on its test split, and the report."""

import sys
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.errors import StaleStageError
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import check_inputs, recorded_stage
from moe_lightning.settings.evaluation import EvaluationSettings, parser, resolved
from moe_lightning.settings.options import from_options
from moe_lightning.system.exits import exits_cleanly


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a run unless the stage is finished."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    settings = from_options(EvaluationSettings, parser().parse(arguments))
    run = RunDir(Path(settings.run_dir))
    from moe_lightning.evaluation.evaluate import evaluate, rescore  # seconds: not for --help

    if settings.rescore:
        rescore(run, settings)
    elif settings.split == "dev":  # for tuning: as often as one likes
        check_inputs(run, "evaluation")
        evaluate(run, settings)
    else:
        try:
            with recorded_stage(run, "evaluation", resolved(arguments)) as has_work:
                if has_work:
                    evaluate(run, settings)
        except StaleStageError as error:
            raise StaleStageError(
                error.code, f"{error}; or score what was decoded before with --rescore", error.value
            ) from error


if __name__ == "__main__":
    main()
