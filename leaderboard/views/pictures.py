"""One page per board that has something to look at: what each method made of a part of one test image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import Picture, Pictures
from leaderboard.boards import Board, Place
from leaderboard.views.base import Page, pictures_path


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


def pages(place: Place, board: Board) -> Iterator[Page]:
    """Yield the page of a board whose records have pictures."""
    strip = strip_of(board, [row.method for row in board.rows])
    if strip is not None:
        values = {"comparison": place, "board": board, "strip": strip}
        yield Page(pictures_path(place, board), "pictures.html", values)


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
