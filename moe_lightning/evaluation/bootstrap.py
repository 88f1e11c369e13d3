"""Confidence intervals of error rates, and the probability that one system beats another.

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004: the
test set is drawn again and again, with replacement, and scored each time (section 2). Two systems are scored on the
same draws; the share of draws with fewer errors is the probability of improvement (section 3). The bootstrap draws
speakers, because utterances from one speaker are not independent; or, for comparison, utterances.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moe_lightning.reports.results import Compared, Interval

CONFIDENCE = 0.95
_MOST_DRAWN_AT_ONCE = 4_000_000
"""Numbers in memory at a time."""


class Resampled(NamedTuple):
    """Error rate of a system, on the full test set and on the draws."""

    rate: float
    rates_R: np.ndarray
    """Rate per draw, for R draws."""


def resample(
    errors_NS: np.ndarray, lengths_N: np.ndarray, units: Sequence[str], num_resamples: int, seed: int
) -> np.ndarray:
    """Error rates of S systems on R drawn test sets, (R, S); the same draws for all systems.

    The order of the utterances does not matter: units are drawn in the order of their names.

    Args:
        errors_NS: Errors per utterance and system.
        lengths_N: Words per reference; every unit needs at least one.
        units: Unit of drawing per utterance: its speaker, or its id.
    """
    names, unit_N = np.unique(np.asarray(units), return_inverse=True)
    num_units = len(names)
    sums_MX = np.zeros((num_units, errors_NS.shape[1] + 1))
    np.add.at(sums_MX, unit_N, np.column_stack([errors_NS, lengths_N]))
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_DRAWN_AT_ONCE // num_units)
    drawn = []
    for start in range(0, num_resamples, at_once):
        num_drawn = min(at_once, num_resamples - start)
        drawn_RM = rng.integers(num_units, size=(num_drawn, num_units))
        offsets_R1 = num_units * np.arange(num_drawn)[:, None]
        counts = np.bincount((drawn_RM + offsets_R1).ravel(), minlength=num_drawn * num_units)
        drawn.append(counts.reshape(num_drawn, num_units) @ sums_MX)
    sums_RX = np.concatenate(drawn)
    return sums_RX[:, :-1] / sums_RX[:, -1:]


def interval(values_R: np.ndarray) -> Interval:
    """Central 95 % of the drawn values."""
    return intervals(values_R[:, None])[0]


def intervals(values_RS: np.ndarray) -> list[Interval]:
    """Central 95 % of the drawn values, per column."""
    tail = 100 * (1 - CONFIDENCE) / 2
    bounds_S2 = np.percentile(values_RS, [tail, 100 - tail], axis=0).T
    return [(round(low, 6) + 0.0, round(high, 6) + 0.0) for low, high in bounds_S2.tolist()]  # no minus before a zero


def compare(system: Resampled, baseline: Resampled, over: str = "speakers") -> Compared:
    """Compare a system with a baseline on the same draws (see `resample`) of a unit."""
    differences_R = system.rates_R - baseline.rates_R
    is_better_R = np.where(differences_R == 0, 0.5, differences_R < 0)
    improvement, improvements = None, None
    if baseline.rate > 0:
        improvement = round((baseline.rate - system.rate) / baseline.rate, 6)
        has_errors_R = baseline.rates_R > 0
        improvements = interval(-differences_R[has_errors_R] / baseline.rates_R[has_errors_R])
    return Compared(
        over=over,
        relative_improvement=improvement,
        interval=improvements,
        difference=round(system.rate - baseline.rate, 6),
        difference_interval=interval(differences_R),
        probability_better=round(float(is_better_R.mean()), 6),
    )
