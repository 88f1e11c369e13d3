"""The whole ladder: training, tuning, scoring, verdict."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.evaluation.ladder.collect import collect
from moe_lightning.evaluation.ladder.rows import MIXTURE, Row, run_size, trained_rows
from moe_lightning.evaluation.ladder.runs import Ladder, Training
from moe_lightning.evaluation.ladder.tuning import base_rates, best_factor, dev_score
from moe_lightning.settings.evaluation import ScoreSettings
from moe_lightning.system.locks import RUN_LOCK, locked


def run_ladder(path: Path, flags: tuple[str, ...], pipeline: argparse.Namespace, own: argparse.Namespace) -> None:
    """Train every row with every seed, score them together, write ``report/`` and print the table.

    Args:
        path: Folder of the ladder.
        flags: The user's flags for the pipeline.
        pipeline: The same, parsed.
        own: The ladder's own options.
    """
    with locked(path, RUN_LOCK):
        _run(Ladder(path, flags, base_rates(pipeline.set), own.jobs), pipeline, own)


def _run(ladder: Ladder, pipeline: argparse.Namespace, own: argparse.Namespace) -> None:
    seeds = [pipeline.seed + number for number in range(own.seeds)]
    factors = sorted(own.lr_factors, key=lambda factor: max(factor, 1 / factor))  # 1 first: the others share its stages

    ladder.finish([Training(MIXTURE, factors[0], seeds[0])])
    of_mixture = _tuned(ladder, MIXTURE, factors, seeds[0])
    ladder.finish(Training(MIXTURE, of_mixture, seed) for seed in seeds)

    rows = trained_rows(run_size(ladder.run(Training(MIXTURE, of_mixture, seeds[0]))), own.label_field, own.rows)
    headline = next(row for row in rows if row.name == "lora_equal")
    of_lora = _tuned(ladder, headline, factors, seeds[0])
    chosen = {row.name: of_lora if row.is_one_lora else of_mixture for row in [MIXTURE, *rows]}
    ladder.finish(Training(row, chosen[row.name], seed) for row in rows for seed in seeds)

    normaliser = pipeline.set.get("evaluation.normaliser", "auto")
    scoring = ScoreSettings(own.num_resamples, pipeline.seed, normaliser=normaliser)
    collect(ladder, [MIXTURE, *rows], chosen, seeds, scoring)


def _tuned(ladder: Ladder, row: Row, factors: Sequence[float], seed: int) -> float:
    """Learning-rate factor with the best score on the dev split."""
    trainings = {factor: Training(row, factor, seed) for factor in factors}
    ladder.finish(trainings.values())
    scores = {factor: dev_score(ladder.run(training)) for factor, training in trainings.items()}
    best = best_factor(scores)
    if len(scores) > 1:
        tried = ", ".join(f"x{factor:g}: {100 * score:.1f} %" for factor, score in sorted(scores.items()))
        print(f"{row.name}: learning rate x{best:g} is best on the dev split ({tried})", flush=True)
    return best
