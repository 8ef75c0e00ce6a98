"""Geometry of the gain chart: one row of an interval per board, all on one axis. Only SVG attributes, no script."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from leaderboard.statistics import Gain

WIDTH, MARGIN = 240, 14
TICKS = 5


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


def axis_for(gains: Iterable[Gain | None]) -> Axis:
    """Return the axis on which every gain and interval fits, with round ticks.

    >>> axis_for([Gain(1.0, None, None)])
    Axis(low=0.0, high=1.0, ticks=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), digits=1)
    """
    values = [0.0]
    for gain in gains:
        if gain is not None:
            values += [gain.value] if gain.interval is None else [gain.value, gain.interval.low, gain.interval.high]
    span = max(values) - min(values) or 1.0
    exponent = math.floor(math.log10(span / TICKS))
    step = next(m * 10.0**exponent for m in (1, 2, 5, 10) if m * 10.0**exponent * TICKS >= span * 0.999)
    first, last = math.floor(min(values) / step + 1e-9), math.ceil(max(values) / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(i * step, 10) for i in range(first, last + 1))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return Axis(ticks[0], ticks[-1], ticks, digits)
