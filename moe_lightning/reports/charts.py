"""Charts for the page: bars and dots with intervals as HTML that adapts to the page's width, curves as SVG."""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

from moe_lightning.reports.curves import Chart, Curve
from moe_lightning.reports.pages import render_part

Interval = tuple[float, float]
_TEMPLATE = "charts.html.j2"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 340, 190, 46, 22, 8
_COLOURS = ("var(--blue)", "var(--orange)", "var(--green)")


class Bar(NamedTuple):
    """A rate with its interval."""

    name: str
    rate: float
    interval: Interval | None
    note: str = ""
    is_headline: bool = False
    points: tuple[float, ...] = ()
    """Component rates, such as one per seed."""


class Dots(NamedTuple):
    """A group before and after."""

    name: str
    before: float
    after: float
    interval: Interval | None
    """For the rate after."""
    note: str = ""
    other: float | None = None
    """A third rate for comparison."""


def bars(rows: Sequence[Bar]) -> str:
    """A bar per rate, with a line for its interval; the axis starts at 0."""
    top = _nice_top(max(max(row.rate, *(row.interval or (0.0,)), *row.points) for row in rows))
    drawn = [
        {
            "name": row.name,
            "note": row.note,
            "is_headline": row.is_headline,
            "width": _place(row.rate, top),
            "whisker": _whisker(row.interval, top),
            "points": [_place(point, top) for point in row.points],
            "rate": _percent(row.rate),
            "bounds": _bounds(row.interval),
        }
        for row in rows
    ]
    return render_part(_TEMPLATE, "bars", drawn, _axis(top))


def dot_plot(rows: Sequence[Dots]) -> str:
    """Per group, an empty dot before and a full one after, orange if worse, connected by a line."""
    top = _nice_top(max(max(row.before, row.after, row.other or 0.0) for row in rows))
    drawn = []
    for row in rows:
        low, high = sorted((row.before, row.after))
        drawn.append(
            {
                "name": row.name,
                "note": row.note,
                "is_worse": row.after > row.before,
                "whisker": _whisker(row.interval, top),
                "way": (_place(low, top), _place(high - low, top)),
                "diamond": "" if row.other is None else _place(row.other, top),
                "before": _place(row.before, top),
                "after": _place(row.after, top),
                "rates": (f"{100 * row.before:.1f}", _percent(row.after)),
            }
        )
    return render_part(_TEMPLATE, "dots", drawn, _axis(top))


def line_chart(chart: Chart) -> str:
    """Curves over training steps as SVG, with a legend below."""
    values = [value for curve in chart.curves for value in curve.values]
    bottom, top = _range(min(values), max(values))
    last = max(max(step for curve in chart.curves for step in curve.steps), 1)
    coloured = zip(chart.curves, cycle(_COLOURS), strict=False)
    drawn = {
        "title": chart.title,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "last": last,
        "ticks": [(_y(tick, bottom, top), _short(tick)) for tick in _ticks(bottom, top)],
        "lines": [_line(curve, colour, bottom, top, last) for curve, colour in coloured],
    }
    return render_part(_TEMPLATE, "curves", drawn)


def alignment_html(pairs: Sequence[Sequence[str]]) -> str:
    """The words of a hypothesis, errors marked.

    Args:
        pairs: Kind, reference word, hypothesis word.
    """
    return render_part(_TEMPLATE, "alignment", pairs)


def _line(curve: Curve, colour: str, bottom: float, top: float, last: int) -> dict[str, Any]:
    points = [
        (_LEFT + (_WIDTH - _LEFT) * step / last, _y(value, bottom, top))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    return {
        "name": curve.name,
        "value": _short(curve.values[-1]),
        "colour": colour,
        "path": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        "marks": points if len(points) <= 20 else [],
    }


def _y(value: float, bottom: float, top: float) -> float:
    return _TOP + (_HEIGHT - _BOTTOM - _TOP) * (top - value) / (top - bottom)


def _range(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis: it starts at 0 if that wastes at most half of it."""
    bottom = 0.0 if 0 <= low <= high / 2 or low == high > 0 else low
    return (bottom, high) if high > bottom else (bottom - 0.5, high + 0.5)


def _ticks(bottom: float, top: float) -> list[float]:
    """Three to six round numbers within an axis."""
    step = _step((top - bottom) / 4)
    first = math.ceil(bottom / step - 1e-9)
    return [number * step for number in range(first, math.floor(top / step + 1e-9) + 1)]


def _step(rough: float) -> float:
    """The next larger number among 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _nice_top(highest: float) -> float:
    """End of an axis for rates: the next tick."""
    step = _step(max(highest, 0.01) / 4)
    return step * math.ceil(max(highest, 0.01) / step - 1e-9)


def _axis(top: float) -> list[tuple[str, str]]:
    """Place and text of each tick."""
    return [(_place(tick, top), f"{100 * tick:g} %") for tick in _ticks(0.0, top)]


def _whisker(interval: Interval | None, top: float) -> tuple[str, str] | None:
    if interval is None:
        return None
    low, high = (min(bound, top) for bound in interval)
    return _place(low, top), _place(high - low, top)


def _place(value: float, top: float) -> str:
    return f"{100 * value / top:.2f}%"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _short(value: float) -> str:
    return f"{value:.3g}"
