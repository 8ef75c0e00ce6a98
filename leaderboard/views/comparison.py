"""The page of a comparison: how its methods stand over all cells, and every method in every cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import reading_place
from leaderboard.badges import Badge, weakest
from leaderboard.boards import Board, Comparison, Row, mean
from leaderboard.standings import Ranked
from leaderboard.statistics import Verdict
from leaderboard.views.base import Page, comparison_path
from leaderboard.views.chart import axis_for
from leaderboard.views.overview import VERDICTS, Section


@dataclass(frozen=True)
class MethodLine:
    """One method over all cells of a comparison. Means are over the cells where it is complete.

    Args:
        place: among all methods; None where it is ranked nowhere.
        gain: mean gain over the bar, over the cells where there is one and it is not the bar itself.
        verdicts: of these gains -> in how many cells where it is ranked.
        won: percent of the cells that the average ranks are over; None where there is none.
        bops: bit operations.
        badge: the weakest that it has in any cell.
    """

    method: str
    place: Ranked | None
    gap: float | None
    gain: float | None
    verdicts: dict[Verdict, int]
    won: float | None
    seconds: float | None
    forward_passes: float | None
    size_bytes: float | None
    bops: float | None
    complete: int
    badge: Badge | None


def pages(comparison: Comparison) -> Iterator[Page]:
    """Yield the page of a comparison."""
    gains = [*(board.gain for board in comparison.boards), *(line.gain for line in comparison.headlines)]
    values = {
        "comparison": comparison,
        "section": Section.of(comparison),
        "axis": axis_for(gains),
        "lines": method_lines(comparison),
    }
    yield Page(comparison_path(comparison), "comparison.html", values)


def method_lines(comparison: Comparison) -> list[MethodLine]:
    """Return the methods, the best average rank first, those without one last."""
    standings = comparison.standings
    places = {place.method: place for place in standings.places} if standings else {}
    rows: dict[str, list[tuple[Board, Row]]] = {}
    for board in comparison.boards:
        for row in board.rows:
            rows.setdefault(row.method, []).append((board, row))
    cells = standings.cells if standings else 0
    lines = [_line(method, places.get(method), found, cells) for method, found in rows.items()]
    last = len(lines) + 1.0
    return sorted(lines, key=lambda line: (line.place.rank if line.place else last, reading_place(line.method)))


def _line(method: str, place: Ranked | None, rows: list[tuple[Board, Row]], cells: int) -> MethodLine:
    complete = [row for _, row in rows if row.state == "complete"]
    # A bar does not tie with itself.
    gains = [(row.gain, row.ranked) for board, row in rows if row.gain is not None and method != board.bar]
    verdicts = {verdict: sum(ranked and gain.verdict == verdict for gain, ranked in gains) for verdict in VERDICTS}
    return MethodLine(
        method=method,
        place=place,
        gap=mean([row.gap for row in complete]),
        gain=mean([gain.value for gain, _ in gains]),
        verdicts=verdicts,
        won=100 * verdicts["win"] / cells if cells else None,
        seconds=mean([row.seconds for row in complete]),
        forward_passes=mean([row.forward_passes for row in complete]),
        size_bytes=mean([row.size_bytes for row in complete]),
        bops=mean([row.bops for row in complete]),
        complete=len(complete),
        badge=weakest(row.badge for _, row in rows),
    )
