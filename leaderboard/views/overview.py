"""The first page: in each comparison, what DQSS gains over the best uniform strategy, and what wins where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leaderboard.boards import Board, Comparison, Headline
from leaderboard.statistics import Verdict
from leaderboard.views.base import Content, Page

VERDICTS: tuple[Verdict, ...] = ("win", "tie", "loss", "open")


@dataclass(frozen=True)
class Section:
    """A comparison with what its part of the page adds.

    Args:
        images: how many test images its gains pair; the lowest and the highest count.
        matrix: model -> its boards, one for each of the comparison's bit-widths.
        verdicts: of DQSS against the bar -> in how many cells.
        judged: in how many there is a gain.
    """

    comparison: Comparison
    images: tuple[int, int] | None
    matrix: dict[str, tuple[Board, ...]]
    verdicts: dict[Verdict, int]
    judged: int

    @classmethod
    def of(cls, comparison: Comparison) -> Section:
        """Return a comparison's section."""
        counts = [board.images for board in comparison.boards if board.images is not None]
        gains = [board.gain for board in comparison.boards if board.gain is not None]
        matrix: dict[str, tuple[Board, ...]] = dict.fromkeys(comparison.models, ())
        for board in comparison.boards:
            matrix[board.model] += (board,)
        verdicts = {verdict: sum(gain.verdict == verdict for gain in gains) for verdict in VERDICTS}
        return cls(comparison, (min(counts), max(counts)) if counts else None, matrix, verdicts, len(gains))


def pages(content: Content) -> Iterator[Page]:
    """Yield the first page."""
    sections = [Section.of(comparison) for comparison in content.comparisons]
    values = {"sections": sections, "loaded": content.loaded, "leader": leader}
    yield Page("index.html", "overview.html", values)


def leader(board: Board) -> str | None:
    """Return the method with the best score on a board; None where none is complete."""
    return next((row.method for row in board.rows if row.rank == "best"), None)


def uneven_seeds(comparison: Comparison) -> bool:
    """Return whether some boards have other seeds than others."""
    return any(board.seeds not in ((), comparison.seeds) for board in comparison.boards)


def verdict_of(headline: Headline) -> str:
    """Return the class of a headline's figure; a mean over some of the models is never shown as a win."""
    if headline.gain is None:
        return "none"
    verdict = headline.gain.verdict
    return "open" if verdict == "win" and headline.absent else verdict
