"""The page that sets any two methods of a comparison against each other, in every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results import BAR, METHOD, reading_place
from leaderboard.boards import Board, Comparison, Row
from leaderboard.statistics import Gain, Interval, Verdict
from leaderboard.views.base import Page, cell_path, compare_path
from leaderboard.views.overview import VERDICTS, Section


@dataclass(frozen=True)
class Count:
    """How often one method wins over another.

    Args:
        verdicts: of its differences -> in how many cells.
        cells: in how many both are ranked.
    """

    verdicts: dict[Verdict, int]
    cells: int

    @property
    def lead(self) -> str:
        """The class of the count: `win` where it wins in more cells than it loses, `loss` where in fewer."""
        ahead = self.verdicts["win"] - self.verdicts["loss"]
        return "win" if ahead > 0 else "loss" if ahead < 0 else "tie"


def pages(comparison: Comparison) -> Iterator[Page]:
    """Yield the page of a comparison."""
    methods = methods_of(comparison)
    values = {
        "comparison": comparison,
        "section": Section.of(comparison),
        "methods": methods,
        "counts": count_all(comparison, methods),
        "data": data_of(comparison, methods),
    }
    yield Page(compare_path(comparison), "compare.html", values)


def methods_of(comparison: Comparison) -> list[str]:
    """Return the methods in reading order, DQSS last, without those that are only shown beside others."""
    rows = [row for board in comparison.boards for row in board.rows]
    shown = {row.method for row in rows if row.state == "complete"} - {row.method for row in rows if row.ranked}
    return sorted({row.method for row in rows} - shown, key=reading_place)


def difference(board: Board, mine: Row | None, other: Row | None) -> Gain | None:
    """Return what one row's score is above another's; None where either is not ranked.

    Against the bar it is the gain that all pages show; else its interval is from the board's pairs.
    """
    if mine is None or other is None or mine.score is None or other.score is None:
        return None
    if not mine.ranked or not other.ranked:
        return None
    value = round(mine.score - other.score, 9)
    if other.method == board.bar and mine.gain is not None:
        return Gain(value, mine.gain.interval, mine.gain.images)
    if mine.method == board.bar and other.gain is not None:
        known = other.gain.interval
        return Gain(value, Interval(-known.high, -known.low) if known else None, other.gain.images)
    margin = board.pairs.margin(mine.method, other.method)
    return Gain(value, None if margin is None else Interval(value - margin, value + margin), None)


def count_all(comparison: Comparison, methods: Sequence[str]) -> list[list[Count | None]]:
    """Return for each method, a row, its count against each method, a column; None against itself."""
    rows = [{row.method: row for row in board.rows} for board in comparison.boards]
    counts: list[list[Count | None]] = [[None] * len(methods) for _ in methods]
    for i, mine in enumerate(methods):
        for j, other in enumerate(methods[:i]):
            found = [
                difference(board, row.get(mine), row.get(other))
                for board, row in zip(comparison.boards, rows, strict=True)
            ]
            verdicts = [gain.verdict for gain in found if gain is not None]
            tally = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
            counts[i][j] = Count(tally, len(verdicts))
            counts[j][i] = Count({**tally, "win": tally["loss"], "loss": tally["win"]}, len(verdicts))
    return counts


def data_of(comparison: Comparison, methods: Sequence[str]) -> dict[str, Any]:
    """Return what the page's script works with.

    `methods` are names, `start` the two to begin with. Of each board `scores` has one for each method, null where it is
    not ranked; `margins` the half width of the interval for each method and each one before it; `bar` the position
    of the bar, and `exact` the interval of each method's gain over it, or null.
    """
    start = [METHOD if METHOD in methods else methods[-1]]
    start.append(next((name for name in (BAR, *methods) if name in methods and name not in start), start[0]))
    boards = [_board_data(comparison, board, methods) for board in comparison.boards]
    return {"methods": list(methods), "start": start, "boards": boards}


def _board_data(comparison: Comparison, board: Board, methods: Sequence[str]) -> dict[str, Any]:
    ranked = {row.method: row for row in board.rows if row.ranked}
    gains = [ranked[name].gain if name in ranked else None for name in methods]
    return {
        "model": board.model,
        "bits": board.bits,
        "path": cell_path(comparison, board),
        "scores": [ranked[name].score if name in ranked else None for name in methods],
        "margins": [[board.pairs.margin(name, other) for other in methods[:i]] for i, name in enumerate(methods)],
        "bar": methods.index(board.bar) if board.bar in ranked else None,
        "exact": [[gain.interval.low, gain.interval.high] if gain and gain.interval else None for gain in gains],
    }
