"""The page of a comparison's Pareto fronts: what each score costs in size, in bit operations and in search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.results import METHOD
from leaderboard.boards import Board, Comparison, Row, bits_order
from leaderboard.views.base import Page, pareto_path
from leaderboard.views.overview import Section
from leaderboard.views.scatter import Point, Scatter, Shape, scatter
from leaderboard.views.wording import giga, kilobytes, number, score_words, seconds


@dataclass(frozen=True)
class Cost:
    """A cost that a method has.

    Args:
        name: in words.
        title: of its axis, with the unit.
        of: a row's; None where its records do not say.
        written: a cost in words.
        scale: what it is divided by to be in the unit of the axis.
    """

    name: str
    title: str
    of: Callable[[Row], float | None]
    written: Callable[[float], str]
    scale: float


@dataclass(frozen=True)
class Figure:
    """Score against one cost.

    Args:
        rows: those on the front with their boards, the lowest cost first.
        count: how many points there are.
    """

    cost: Cost
    where: str
    scatter: Scatter
    rows: tuple[tuple[Board, Row], ...]
    count: int


@dataclass(frozen=True)
class ModelFronts:
    """The figures of one model.

    Args:
        network: against what the quantized network costs, all bit-widths together.
        search: against what finding it cost, each bit-width apart: more bits cost no more search.
    """

    model: str
    network: tuple[Figure, ...]
    search: tuple[Figure, ...]

    def best(self) -> list[tuple[Board, Row, list[str]]]:
        """Return the rows on any front with the names of the costs: by bit-width, the best score first."""
        found: dict[tuple[str, str], tuple[Board, Row, list[str]]] = {}
        for figure in self.network + self.search:
            for board, row in figure.rows:
                found.setdefault((board.bits, row.method), (board, row, []))[2].append(figure.cost.name)
        return sorted(found.values(), key=lambda one: (bits_order(one[0].bits), -(one[1].score or 0), one[1].method))


def pages(comparison: Comparison) -> Iterator[Page]:
    """Yield the page of a comparison."""
    fronts = [model_fronts(comparison, model) for model in comparison.models]
    values = {"comparison": comparison, "section": Section.of(comparison), "fronts": fronts}
    yield Page(pareto_path(comparison), "pareto.html", values)


def model_fronts(comparison: Comparison, model: str) -> ModelFronts:
    """Return the figures of a model; none of a cost that no ranked row has."""
    boards = [board for board in comparison.boards if board.model == model]
    activity = "Search" if comparison.mode == "ptq" else "Training"
    network = (
        Cost("size", "Size (kB)", lambda row: row.size_bytes, kilobytes, 1e3),
        Cost("bit operations", "Bit operations (10⁹)", lambda row: row.bops, giga, 1e9),
    )
    search = (
        Cost(f"{activity.lower()} time", f"{activity} (s)", lambda row: row.seconds, seconds, 1),
        Cost("forward passes", "Forward passes (images)", lambda row: row.forward_passes, partial(number, digits=0), 1),
    )
    score = score_words(comparison.metric)
    return ModelFronts(
        model,
        _present(_figure(boards, cost, score, f"{model}") for cost in network),
        _present(_figure([board], cost, score, f"{model} at {board.bits}") for board in boards for cost in search),
    )


def _present(figures: Iterator[Figure | None]) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if figure is not None)


def _figure(boards: list[Board], cost: Cost, score: str, where: str) -> Figure | None:
    """Return a figure of all ranked rows of some boards; None without any."""
    found: list[tuple[Board, Row]] = []
    points = []
    for board in boards:
        for row in board.rows:
            value = cost.of(row)
            if not row.ranked or row.score is None or value is None:
                continue
            name = row.method if len(boards) == 1 else f"{row.method} {board.bits}"
            told = f"{row.method} at {board.bits}: {number(row.score)}, {cost.title} {cost.written(value)}"
            shape: Shape = "dqss" if row.method == METHOD else "bar" if row.method == board.bar else "other"
            # What differs by rounding alone is equal.
            points.append(Point(name, shape, round(value / cost.scale, 6), round(row.score, 6), told))
            found.append((board, row))
    if not points:
        return None
    drawn = scatter(points, cost.title, score)
    return Figure(cost, where, drawn, tuple(found[i] for i in drawn.best), len(points))
