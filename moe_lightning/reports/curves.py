"""Training curves, from the TensorBoard files of a run."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from moe_lightning.run.folder import RunDir

TRAINED_STAGES = ("gating", "experts", "moe")
MOST_POINTS = 300
"""Per curve on the page; a longer curve is thinned out evenly."""


class Curve(NamedTuple):
    """A value over training steps."""

    name: str
    """Name in the log: ``val/loss``."""
    steps: list[int]
    values: list[float]


class Chart(NamedTuple):
    """Curves that share an axis."""

    title: str
    curves: list[Curve]


_CHARTS = (
    ("loss", ("train/loss", "val/loss")),
    ("word error rate", ("val/wer",)),
    ("gate: accuracy and entropy", ("val/gate_accuracy", "val/accuracy", "val/gate_entropy", "val/entropy")),
    ("balance", ("train/balance",)),
    ("learning rate", ("lr-*",)),
)
"""Chart titles, with the names (or patterns) of their curves; curves that were not logged are skipped."""
_OTHER_THAN_RATES = ("*-momentum", "*-weight_decay")
"""Further values logged by Lightning's LearningRateMonitor under ``lr-``, if requested."""


def training_charts(run: RunDir) -> dict[str, list[Chart]]:
    """Charts per trained stage with logged values."""
    charts: dict[str, list[Chart]] = {}
    for stage in TRAINED_STAGES:
        folder = run.tensorboard_dir / stage
        curves = read_curves(folder) if any(folder.glob("events.*")) else {}
        found = [(title, [curve for name in names for curve in _named(curves, name)]) for title, names in _CHARTS]
        of_stage = [Chart(title, some) for title, some in found if some]
        if of_stage:
            charts[stage] = of_stage
    return charts


def _named(curves: Mapping[str, Curve], pattern: str) -> list[Curve]:
    """Curves with a name that matches this pattern."""
    return [
        curves[name]
        for name in sorted(fnmatch.filter(curves, pattern))
        if not any(fnmatch.fnmatch(name, other) for other in _OTHER_THAN_RATES)
    ]


def read_curves(folder: Path) -> dict[str, Curve]:
    """All scalars in a folder of event files; for a step logged twice, the later value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # takes a second

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        by_step = {event.step: event.value for event in events.Scalars(name)}
        by_step = {step: value for step, value in sorted(by_step.items()) if value == value}  # no NaN
        if by_step:
            curves[name] = _thinned(Curve(name, list(by_step), list(by_step.values())))
    return curves


def _thinned(curve: Curve) -> Curve:
    """At most `MOST_POINTS` of a curve, including its last one."""
    every = -(-len(curve.steps) // MOST_POINTS)
    rows = range(len(curve.steps) - 1, -1, -every)[::-1]
    return Curve(curve.name, [curve.steps[row] for row in rows], [curve.values[row] for row in rows])
