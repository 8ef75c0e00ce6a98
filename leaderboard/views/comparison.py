"""The page of a comparison: how its methods stand over all cells, and every method in every cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from benchmarks.results import reading_place
from leaderboard.badges import Badge, weakest
from leaderboard.boards import Comparison, Row
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
        gain: mean gain over the bar, over the cells where there is one.
        verdicts: of its gains -> in how many cells where it is ranked.
        bops: bit operations.
        badge: the weakest that it has in any cell.
    """

    method: str
    place: Ranked | None
    gap: float | None
    gain: float | None
    verdicts: dict[Verdict, int]
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
    places = {place.method: place for place in comparison.standings.places} if comparison.standings else {}
    rows: dict[str, list[Row]] = {}
    for board in comparison.boards:
        for row in board.rows:
            rows.setdefault(row.method, []).append(row)
    lines = [_line(method, places.get(method), found) for method, found in rows.items()]
    last = len(lines) + 1.0
    return sorted(lines, key=lambda line: (line.place.rank if line.place else last, reading_place(line.method)))


def _line(method: str, place: Ranked | None, rows: list[Row]) -> MethodLine:
    complete = [row for row in rows if row.state == "complete"]
    gains = [(row.gain, row.ranked) for row in complete if row.gain is not None]
    return MethodLine(
        method=method,
        place=place,
        gap=_mean([row.gap for row in complete]),
        gain=_mean([gain.value for gain, _ in gains]),
        verdicts={verdict: sum(ranked and gain.verdict == verdict for gain, ranked in gains) for verdict in VERDICTS},
        seconds=_mean([row.seconds for row in complete]),
        forward_passes=_mean([row.forward_passes for row in complete]),
        size_bytes=_mean([row.size_bytes for row in complete]),
        bops=_mean([row.bops for row in complete]),
        complete=len(complete),
        badge=weakest(row.badge for row in rows),
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
