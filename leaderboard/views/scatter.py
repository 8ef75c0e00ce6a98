"""Geometry of the figures of score against cost: the front, the shapes of points, and labels that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from leaderboard.views.chart import (
    BOTTOM,
    LEFT,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    RIGHT,
    TOP,
    Plot,
    linear,
    logarithmic,
)

Shape = Literal["dqss", "bar", "other"]
Box = tuple[float, float, float, float]

# Of labels, in units of the drawing: a letter's mean width, their height, how far they stand from their point.
_LETTER, _HEIGHT, _AWAY = 7.2, 14, 9
# Half of what a point takes.
_RADIUS = 6


@dataclass(frozen=True)
class Point:
    """One method at one bit-width.

    Args:
        name: as its label has it.
        told: what its values are, in words.
    """

    name: str
    shape: Shape
    cost: float
    score: float
    told: str


@dataclass(frozen=True)
class Mark:
    """A point in the units of the drawing."""

    x: float
    y: float
    shape: Shape
    best: bool
    told: str


@dataclass(frozen=True)
class Label:
    """Words in the drawing; `anchor` says which end of them is at x, as SVG has it."""

    text: str
    x: float
    y: float
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Scatter:
    """A figure of points with their front.

    Args:
        plot: its axes.
        front: the steps along the front, as SVG's polyline has them.
        best: positions of the points on the front, the lowest cost first.
        hidden: how many points lie below the lower edge.
    """

    plot: Plot
    front: str
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    best: tuple[int, ...]
    hidden: int


def front(points: Sequence[Point]) -> list[int]:
    """Return the positions of the points that no other one beats, the lowest cost first.

    A point is beaten by one with at least its score for at most its cost that is better in one of them. Equal points
    stay together.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].score))
    kept: list[int] = []
    for i in order:
        best = points[kept[-1]] if kept else None
        if best is None or points[i].score > best.score or (points[i].cost, points[i].score) == (best.cost, best.score):
            kept.append(i)
    return kept


def scatter(points: Sequence[Point], x_title: str, y_title: str) -> Scatter:
    """Return the figure of some points, one at least.

    Costs are logarithmic where all are above 0 and span more than a decade. Scores far below the front would press it
    flat, so the figure ends about as far below its lowest point as it is high, with half of the points in it at least.
    """
    best = front(points)
    low, high = points[best[0]].score, points[best[-1]].score
    floor = min(low - 1.25 * (high - low), median(point.score for point in points))
    shown = [i for i, point in enumerate(points) if point.score >= floor]
    costs = [points[i].cost for i in shown]
    sides, upright = (LEFT, PLOT_WIDTH - RIGHT), (PLOT_HEIGHT - BOTTOM, TOP)
    wide = min(costs) > 0 and max(costs) > 10 * min(costs)
    x_scale = logarithmic(costs, sides) if wide else linear(costs, sides)
    y_scale = linear([points[i].score for i in shown], upright)
    places = {i: (x_scale.at(points[i].cost), y_scale.at(points[i].score)) for i in shown}
    # What matters is drawn last, on top.
    order = sorted(shown, key=lambda i: (i in best, ("other", "bar", "dqss").index(points[i].shape)))
    marks = tuple(Mark(*places[i], points[i].shape, i in best, points[i].told) for i in order)
    # DQSS and the highest scores have the first choice of room.
    named = sorted(best, key=lambda i: (points[i].shape != "dqss", -points[i].score))
    corners = _steps([places[i] for i in best])
    labels = place_labels([(points[i].name, *places[i]) for i in named], list(places.values()), corners)
    line = " ".join(f"{x},{y}" for x, y in corners)
    plot = Plot(x_title, y_title, x_scale.marks(), y_scale.marks())
    return Scatter(plot, line, marks, labels, tuple(best), len(points) - len(shown))


def place_labels(
    named: Sequence[tuple[str, float, float]],
    marks: Sequence[tuple[float, float]],
    corners: Sequence[tuple[float, float]] = (),
) -> tuple[Label, ...]:
    """Return labels that overlap neither each other nor a point, and stay in the drawing; the first has first choice.

    They keep off the line of the front where they can. One that finds no place near its point is left out.

    Args:
        named: text, x and y of the points to label.
        marks: x and y of all points.
        corners: of the front.
    """
    taken = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in marks]
    line = [(min(x, u) - 1, min(y, v) - 1, max(x, u) + 1, max(y, v) + 1) for (x, y), (u, v) in pairwise(corners)]
    labels = []
    for text, x, y in named:
        free = [label for label in _candidates(text, x, y) if _is_free(_box(label), taken)]
        if free:
            labels.append(next((label for label in free if _is_free(_box(label), line)), free[0]))
            taken.append(_box(labels[-1]))
    return tuple(labels)


def _candidates(text: str, x: float, y: float) -> list[Label]:
    beside, above, below = y + 4, y - _AWAY, y + _AWAY + 9
    near = [
        Label(text, x - _AWAY, above, "end"),
        Label(text, x, above, "middle"),
        Label(text, x + _AWAY, beside, "start"),
        Label(text, x - _AWAY, beside, "end"),
        Label(text, x + _AWAY, below, "start"),
        Label(text, x, below, "middle"),
        Label(text, x + _AWAY, above, "start"),
        Label(text, x - _AWAY, below, "end"),
    ]
    far = [Label(label.text, label.x, round(label.y + step, 1), label.anchor) for step in (14, -14) for label in near]
    return near + far


def _box(label: Label) -> Box:
    width = _LETTER * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return left, label.y - _HEIGHT + 3, left + width, label.y + 3


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    """Return whether a box lies in the drawing, above its lower axis, and overlaps none of others."""
    left, top, right, bottom = box
    inside = left >= LEFT and top >= 0 and right <= PLOT_WIDTH and bottom <= PLOT_HEIGHT - BOTTOM
    return inside and not any(left < u and x < right and top < v and y < bottom for x, y, u, v in taken)


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the front: for a cost between two points the cheaper one is the best there is."""
    corners = [places[0]]
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (float(PLOT_WIDTH - RIGHT), corners[-1][1])]
