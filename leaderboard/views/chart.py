"""Geometry of the figures: intervals, lines over steps, points of two measures, rows of points. Numbers, no markup.

The templates draw them with plain SVG elements, so that they are there without any script and look like the page.
Drawing libraries take 30 to 90 ms a figure, which is more than all else of a page: docs/adr/0011-site.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leaderboard.statistics import Gain

WIDTH, MARGIN = 240, 14
TICKS = 5
PLOT_WIDTH, PLOT_HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 80, 16, 12, 44
"""Room around a plot for its labels."""
ROW_HEIGHT = 20
NAME_WIDTH, NAME_LENGTH = 6.2, 34
"""Of the names of rows: how wide a letter is about, and how many are shown."""
BOX = {
    "width": PLOT_WIDTH,
    "height": PLOT_HEIGHT,
    "left": LEFT,
    "right": PLOT_WIDTH - RIGHT,
    "top": TOP,
    "bottom": PLOT_HEIGHT - BOTTOM,
}


@dataclass(frozen=True)
class Axis:
    """A linear axis that holds 0.

    Args:
        low: the value at the left margin.
        high: the value at the right margin.
        ticks: values with a label, 0 among them.
        digits: decimals of a label.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def x(self, value: float) -> float:
        """Return a value's horizontal position, in the units of a drawing that is WIDTH wide."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 2)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the units of the drawing."""

    at: float
    label: str


@dataclass(frozen=True)
class Series:
    """Points (x, y) that belong together under a name."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A series in the units of the drawing: `points` as SVG's polyline has them."""

    name: str
    points: str


@dataclass(frozen=True)
class Dot:
    """A named point in the units of the drawing, and what its values are."""

    name: str
    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Plot:
    """A drawing of PLOT_WIDTH by PLOT_HEIGHT with two axes."""

    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class RowSeries:
    """A value for each row of a plot, None where there is none, under a name."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class RowDots:
    """A series of a row plot in the units of the drawing."""

    name: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class RowPlot:
    """A drawing of PLOT_WIDTH by `height`: a named row each from `left` on, the axis of the values at `bottom`."""

    x_title: str
    left: float
    bottom: float
    height: float
    x_ticks: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    series: tuple[RowDots, ...]


@dataclass(frozen=True)
class Scale:
    """From values to the units of a drawing.

    Args:
        ticks: values with a label; the first and the last are the ends.
        labels: of the ticks.
        transform: identity, or log10.
        ends: where the first and the last tick lie in the drawing.
    """

    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    transform: Callable[[float], float]
    ends: tuple[float, float]

    def at(self, value: float) -> float:
        """Return a value's position."""
        low, high = self.transform(self.ticks[0]), self.transform(self.ticks[-1])
        share = (self.transform(value) - low) / (high - low)
        return round(self.ends[0] + share * (self.ends[1] - self.ends[0]), 1)

    def marks(self) -> tuple[Tick, ...]:
        """Return the ticks in the units of the drawing."""
        return tuple(Tick(self.at(tick), label) for tick, label in zip(self.ticks, self.labels, strict=True))


def round_ticks(low: float, high: float) -> tuple[tuple[float, ...], int]:
    """Return about TICKS round values from at most `low` to at least `high`, and the decimals that tell them apart.

    >>> round_ticks(0.0, 1.0)
    ((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 1)
    """
    size = max(abs(low), abs(high))
    # What differs by rounding alone is one value.
    span = high - low if high - low > 1e-9 * size else size or 1.0
    exponent = math.floor(math.log10(span / TICKS))
    step = next(m * 10.0**exponent for m in (1, 2, 5, 10) if m * 10.0**exponent * TICKS >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple(float(f"{i * step:.12g}") for i in range(first, last + 1)), digits


def axis_for(gains: Iterable[Gain | float | None]) -> Axis:
    """Return the axis on which every gain and interval fits, with round ticks.

    >>> axis_for([Gain(1.0, None, None)])
    Axis(low=0.0, high=1.0, ticks=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), digits=1)
    """
    values = [0.0]
    for gain in gains:
        if isinstance(gain, float):
            values.append(gain)
        elif gain is not None:
            values += [gain.value] if gain.interval is None else [gain.value, gain.interval.low, gain.interval.high]
    ticks, digits = round_ticks(min(values), max(values))
    return Axis(ticks[0], ticks[-1], ticks, digits)


def linear(values: Sequence[float], ends: tuple[float, float]) -> Scale:
    """Return the scale with round ticks on which all values fit."""
    ticks, digits = round_ticks(min(values), max(values))
    return Scale(ticks, tuple(f"{tick:,.{digits}f}" for tick in ticks), float, ends)


def logarithmic(values: Sequence[float], ends: tuple[float, float]) -> Scale:
    """Return the scale with ticks at powers of ten, and between them where those are few, on which all values fit.

    Raises:
        ValueError: a value is not above 0.
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    steps: tuple[float, ...] = (1,) if high - low > 3 else (1, 2, 5)
    decades = range(math.floor(low) - 1, math.ceil(high) + 2)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    first = max(i for i, tick in enumerate(ticks) if tick <= min(values) * (1 + 1e-9))
    last = min(i for i, tick in enumerate(ticks) if tick >= max(values) * (1 - 1e-9))
    chosen = tuple(ticks[first : max(last, first + 1) + 1])
    return Scale(chosen, tuple(f"{tick:,.12g}" for tick in chosen), math.log10, ends)


def line_plot(series: Sequence[Series], x_title: str, y_title: str) -> Plot:
    """Return lines over a linear x; y is logarithmic where all values are above 0 and span more than a decade."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_scale = linear(xs, (LEFT, PLOT_WIDTH - RIGHT))
    upright = (PLOT_HEIGHT - BOTTOM, TOP)
    y_scale = logarithmic(ys, upright) if min(ys) > 0 and max(ys) > 10 * min(ys) else linear(ys, upright)
    lines = tuple(Line(one.name, " ".join(f"{x_scale.at(x)},{y_scale.at(y)}" for x, y in one.points)) for one in series)
    return Plot(x_title, y_title, x_scale.marks(), y_scale.marks(), lines)


def row_plot(
    names: Sequence[str],
    series: Sequence[RowSeries],
    x_title: str,
    scale: Callable[[Sequence[float], tuple[float, float]], Scale],
) -> RowPlot:
    """Return a row for each name, in their order from top to bottom, with a point of every series that has a value.

    Args:
        names: one per row.
        series: each with as many values as there are names, at least one of them not None.
        x_title: of the values' axis.
        scale: `linear` or `logarithmic`.
    """
    shown = [_shortened(name) for name in names]
    left = 12 + NAME_WIDTH * max(len(name) for name in shown)
    values = [value for one in series for value in one.values if value is not None]
    x_scale = scale(values, (left + 8, PLOT_WIDTH - 2 * RIGHT))
    rows = [TOP + ROW_HEIGHT * (i + 0.5) for i in range(len(names))]
    dots = tuple(
        RowDots(
            one.name,
            tuple(
                Dot(name, x_scale.at(value), y, f"{name}: {one.name} {value:.4g}")
                for name, y, value in zip(names, rows, one.values, strict=True)
                if value is not None
            ),
        )
        for one in series
    )
    ticks = tuple(Tick(y, name) for y, name in zip(rows, shown, strict=True))
    bottom = TOP + ROW_HEIGHT * len(names)
    return RowPlot(x_title, left, bottom, bottom + BOTTOM, _thinned(x_scale), ticks, dots)


def _shortened(name: str) -> str:
    if len(name) <= NAME_LENGTH:
        return name
    head = NAME_LENGTH // 3
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[head + 1 - NAME_LENGTH :]}"


def _thinned(scale: Scale) -> tuple[Tick, ...]:
    """Return the ticks; of many on a logarithmic scale only those at powers of ten keep the label."""
    marks = scale.marks()
    if len(marks) <= TICKS + 2 or scale.transform is not math.log10:
        return marks
    decades = [abs(math.log10(tick) - round(math.log10(tick))) < 1e-9 for tick in scale.ticks]
    return tuple(Tick(mark.at, mark.label if decade else "") for mark, decade in zip(marks, decades, strict=True))
