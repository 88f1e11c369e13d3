"""Charts for the page: bars and dots with intervals as HTML that adapts to the page's width, curves as SVG."""

import math
from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import NamedTuple

from moe_lightning.evaluation.bootstrap import Interval
from moe_lightning.evaluation.report.curves import Chart, Curve

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
    parts = []
    for row in rows:
        kind = " headline" if row.is_headline else ""
        points = "".join(f'<b style="left:{_place(point, top)}"></b>' for point in row.points)
        parts.append(
            f'<div class="row{kind}">{_name(row.name, row.note)}<div class="track">{_grid(top)}'
            f'<div class="fill" style="width:{_place(row.rate, top)}"></div>{_whisker(row.interval, top)}{points}</div>'
            f'<div class="figure">{_percent(row.rate)}{_bounds(row.interval)}</div></div>'
        )
    return f'<div class="plot">{"".join(parts)}{_axis(top)}</div>'


def dot_plot(rows: Sequence[Dots]) -> str:
    """Per group, an empty dot before and a full one after, orange if worse, connected by a line."""
    top = _nice_top(max(max(row.before, row.after, row.other or 0.0) for row in rows))
    parts = []
    for row in rows:
        low, high = sorted((row.before, row.after))
        kind = " worse" if row.after > row.before else ""
        parts.append(
            f'<div class="row{kind}">{_name(row.name, row.note)}<div class="track">{_grid(top)}'
            f"{_whisker(row.interval, top)}"
            f'<div class="way" style="left:{_place(low, top)};width:{_place(high - low, top)}"></div>'
            f"{_diamond(row.other, top)}"
            f'<div class="dot before" style="left:{_place(row.before, top)}"></div>'
            f'<div class="dot" style="left:{_place(row.after, top)}"></div></div>'
            f'<div class="figure">{100 * row.before:.1f} &rarr; {_percent(row.after)}</div></div>'
        )
    return f'<div class="plot">{"".join(parts)}{_axis(top)}</div>'


def line_chart(chart: Chart) -> str:
    """Curves over training steps as SVG, with a legend below."""
    values = [value for curve in chart.curves for value in curve.values]
    steps = [step for curve in chart.curves for step in curve.steps]
    bottom, top = _range(min(values), max(values))
    last = max(max(steps), 1)
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for tick in _ticks(bottom, top)
        for y in [_y(tick, bottom, top)]
    ]
    places = [
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">0</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{last} steps</text>'
    ]
    coloured = list(zip(chart.curves, cycle(_COLOURS), strict=False))
    drawn = [_line(curve, colour, bottom, top, last) for curve, colour in coloured]
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(curve.name)} {_short(curve.values[-1])}</span>'
        for curve, colour in coloured
    )
    return (
        f'<figure><figcaption>{escape(chart.title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(chart.title)}">{"".join(lines + places + drawn)}</svg>'
        f'<div class="legend">{legend}</div></figure>'
    )


def _line(curve: Curve, colour: str, bottom: float, top: float, last: int) -> str:
    points = [
        (_LEFT + (_WIDTH - _LEFT) * step / last, _y(value, bottom, top))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" stroke="{colour}"/>' + (marks if len(points) <= 20 else "")


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


def _axis(top: float) -> str:
    ticks = _ticks(0.0, top)
    marks = "".join(f'<span style="left:{_place(tick, top)}">{100 * tick:g} %</span>' for tick in ticks)
    track = f'<div class="track">{marks}</div>'
    return f'<div class="row axis"><div class="name"></div>{track}<div class="figure"></div></div>'


def _grid(top: float) -> str:
    return "".join(f'<i style="left:{_place(tick, top)}"></i>' for tick in _ticks(0.0, top))


def _name(name: str, note: str) -> str:
    return f'<div class="name">{escape(name)}' + (f"<span>{escape(note)}</span>" if note else "") + "</div>"


def _whisker(interval: Interval | None, top: float) -> str:
    if interval is None:
        return ""
    low, high = (min(bound, top) for bound in interval)
    return f'<div class="whisker" style="left:{_place(low, top)};width:{_place(high - low, top)}"></div>'


def _diamond(rate: float | None, top: float) -> str:
    return "" if rate is None else f'<div class="diamond" style="left:{_place(rate, top)}"></div>'


def _place(value: float, top: float) -> str:
    return f"{100 * value / top:.2f}%"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" <span>{100 * interval[0]:.1f} to {100 * interval[1]:.1f}</span>"


def _short(value: float) -> str:
    return f"{value:.3g}"
