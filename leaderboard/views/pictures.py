"""One page per board that has something to look at: what each method made of a part of one test image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import Picture, Pictures
from benchmarks.results import METHOD
from leaderboard.boards import Board
from leaderboard.views.base import Content, Page, pictures_path


@dataclass(frozen=True)
class Panel:
    """One picture of a strip.

    Args:
        score: of the method whose output it is, on the whole test set; None for a reference.
    """

    name: str
    picture: Picture
    score: float | None


@dataclass(frozen=True)
class Strip:
    """Pictures side by side, of the same part of the same image."""

    caption: str
    panels: tuple[Panel, ...]


def pages(content: Content) -> Iterator[Page]:
    """Yield a page for each board whose records have pictures."""
    for comparison in content.comparisons:
        for board in comparison.boards:
            strip = whole_strip(board)
            if strip is not None:
                values = {"comparison": comparison, "board": board, "strip": strip}
                yield Page(pictures_path(comparison, board), "pictures.html", values)


def whole_strip(board: Board) -> Strip | None:
    """Return the references and all methods; None where the board has no pictures."""
    return strip_of(board, [row.method for row in board.rows])


def main_strip(board: Board) -> Strip | None:
    """Return the references, the bar and DQSS; None where neither of the two has pictures."""
    return strip_of(board, [method for method in (board.bar, METHOD) if method is not None])


def strip_of(board: Board, methods: list[str]) -> Strip | None:
    """Return the references and the outputs of these methods, of the first seed each; None without any picture.

    Only pictures of one part of one image stand side by side: those with the caption and the original of the first. The
    other references are the first one's; another machine may have rounded them otherwise.
    """
    found: list[tuple[str, Pictures, float | None]] = []
    for method in methods:
        row = board.row(method)
        record = next((record for record in row.ok if record.pictures), None) if row else None
        if record is not None and record.pictures is not None:
            found.append((method, record.pictures, record.score))
    if not found:
        return None
    first = found[0][1]
    panels = [Panel(name, picture, None) for name, picture in first.references.items()]
    panels += [
        Panel(method, pictures.output, score)
        for method, pictures, score in found
        if (pictures.caption, _original(pictures)) == (first.caption, _original(first))
    ]
    return Strip(first.caption, tuple(panels))


def _original(pictures: Pictures) -> Picture | None:
    return next(iter(pictures.references.values()), None)
