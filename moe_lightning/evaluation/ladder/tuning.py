"""Tune learning rates on the dev split, equally for the mixture and its LoRA baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.command_line import read_yaml
from moe_lightning.settings.comparison import flat_settings
from moe_lightning.settings.guide import CONFIG_DIR
from moe_lightning.system.json_files import is_number, read_json_object

LR = "model.optimizer.init_args.lr"
STAGES = ("experts", "moe")


def base_rates(settings: Mapping[str, str]) -> dict[str, float]:
    """Learning rate per stage that trains experts, before tuning.

    Args:
        settings: The pipeline's ``--set`` options; they override the shipped configs.
    """
    shipped = {stage: flat_settings(read_yaml(Path(CONFIG_DIR / f"{stage}.yaml"))) for stage in STAGES}
    return {stage: float(settings.get(f"{stage}.{LR}", shipped[stage][LR])) for stage in STAGES}


def rate_flags(rates: Mapping[str, float], factor: float) -> tuple[str, ...]:
    """Flags that multiply every learning rate by a factor."""
    return tuple(f"--set={stage}.{LR}={rate * factor:.6g}" for stage, rate in rates.items())


def dev_score(run: RunDir) -> float:
    """Word error rate (or the joint stage's other checkpoint metric) of a run's best epoch on the dev split.

    Raises:
        InputError: No epoch was validated.
    """
    best = read_json_object(run.best_file, "moe-lightning pipeline").get("best")
    if not is_number(best):
        raise InputError(
            "ladder.no-score",
            f"{run.best_file} has no best score: no epoch was validated, so nothing can be tuned on it",
            run.best_file,
        )
    return float(best)


def best_factor(scores: Mapping[float, float]) -> float:
    """The factor with the lowest score; among equals, the one nearest to 1."""
    return min(scores, key=lambda factor: (scores[factor], max(factor, 1 / factor)))


def check_factors(factors: Sequence[float]) -> None:
    """Raise an InputError for factors that are not finite and above 0."""
    bad = [factor for factor in factors if not 0 < factor < float("inf")]
    if bad or not factors:
        raise InputError(
            "setting.range",
            f"--lr-factors must be numbers above 0, got {', '.join(map(str, factors)) or 'none'}",
            "--lr-factors",
        )
