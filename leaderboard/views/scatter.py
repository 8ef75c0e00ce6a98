"""Geometry of the figures of score against cost: the front, the shapes of points, and labels that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from leaderboard.views.chart import BOTTOM, LEFT, PLOT_HEIGHT, PLOT_WIDTH, RIGHT, TOP, Dot, Line, Plot, linear
from leaderboard.views.chart import logarithmic, Scale

Shape = Literal["dqss", "bar", "other"]

_SIDES = (PLOT_WIDTH - RIGHT, LEFT)
# Of labels, in units of the drawing: a letter's mean width, the height, and how far from the point.
_LETTER, _HEIGHT, _AWAY = 6.4, 13, 9
# What a point takes.
_RADIUS = 6


@dataclass(frozen=True)
class Point:
    """One method at one bit-width.

    Args:
        name: as a label has it.
        told: what its values are, in words.
    """

    name: str
    shape: Shape
    cost: float
    score: float
    told: str


def front(points: Sequence[Point]) -> list[int]:
    """Return which points no other one beats, the lowest cost first.

    A point is beaten by one with at least its score for at most its cost, and better in one of them. Equal points stay
    together.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].score))
    kept: list[int] = []
    for i in order:
        best = points[kept[-1]] if kept else None
        if best is None or points[i].score > best.score or (points[i].cost, points[i].score) == (best.cost, best.score):
            kept.append(i)
    return kept


@dataclass(frozen=True)
class Front:
    """A figure with its front.

    Args:
        best: the points of the front, the lowest cost first.
        hidden: how many points lie below the figure's lower edge.
    """

    plot: Plot
    best: tuple[Point, ...]
    hidden: int


def front_plot(points: Sequence[Point], x_title: str, y_title: str) -> Front:
    """Return the figure of some points; costs are logarithmic where they are above 0 and span more than a decade.

    Scores far below the front would press it flat: the figure ends as far below its lowest point as it is high.
    """
    best = [points[i] for i in front(points)]
    floor = best[0].score - 1.25 * (best[-1].score - best[0].score)
    shown = [point for point in points if len(best) < 3 or point.score >= floor]
    costs = [point.cost for point in shown]
    sides, upright = (LEFT, PLOT_WIDTH - RIGHT), (PLOT_HEIGHT - BOTTOM, TOP)
    wide = min(costs) > 0 and max(costs) > 10 * min(costs)
    x_scale = logarithmic(costs, sides) if wide else linear(costs, sides)
    y_scale = linear([point.score for point in shown], upright)
    # What matters is drawn last, on top.
    order = {"other": 0, "bar": 1, "dqss": 2}
    drawn = sorted(shown, key=lambda point: (point in best, order[point.shape]))
    places = {id(point): (x_scale.at(point.cost), y_scale.at(point.score)) for point in drawn}
    labels = place_labels([(point.name, *places[id(point)]) for point in reversed(best)], list(places.values()))
    dots = tuple(
        Dot(point.name, *places[id(point)], point.told, point.shape, any(point is one for one in best)) for point in drawn
    )
    line = Line("front", " ".join(f"{x},{y}" for x, y in _steps(best, x_scale, y_scale)))
    plot = Plot(x_title, y_title, x_scale.marks(), y_scale.marks(), dots=dots, fronts=(line,), labels=labels)
    return Front(plot, tuple(best), len(points) - len(shown))
