"""What a view gets and gives, and where its pages lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.records import Record, key_of
from leaderboard.boards import Board, Comparison, Place
from leaderboard.load import Loaded


@dataclass(frozen=True)
class Content:
    """Everything that a page of the whole can show; its records are light."""

    comparisons: tuple[Comparison, ...]
    loaded: Loaded


@dataclass(frozen=True)
class Page:
    """One file of the site.

    Args:
        path: relative to the site, with forward slashes, at most one folder deep.
        template: a file in `templates/`.
        values: what the template shows; everything is escaped there.
    """

    path: str
    template: str
    values: dict[str, Any]

    @property
    def root(self) -> str:
        """The way from this page up to the site, to begin links with."""
        return "../" * self.path.count("/")


View = Callable[[Content], Iterator[Page]]
BoardView = Callable[[Place, Board], Iterator[Page]]


def slug(*names: str) -> str:
    """Return names as part of a path or anchor: readable, safe whatever they hold, and distinct for distinct names.

    >>> slug("resnet8", "W4A4")
    'resnet8-w4a4-509fad'
    """
    readable = "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] for name in names)
    return f"{readable}-{key_of({'names': names})[:6]}"


def comparison_anchor(place: Place) -> str:
    """Return the id of a comparison's section."""
    return slug(place.suite, place.task, place.mode, place.protocol)


def board_anchor(place: Place, board: Board) -> str:
    """Return the id of a board's section."""
    return slug(*_names(place, board))


def strategy_path(place: Place, board: Board) -> str:
    """Return where the page with DQSS's strategies of a board lies."""
    return f"strategies/{slug(*_names(place, board))}.html"


def pictures_path(place: Place, board: Board) -> str:
    """Return where the page with a board's pictures lies."""
    return f"pictures/{slug(*_names(place, board))}.html"


def record_anchor(record: Record) -> str:
    """Return the id of a record's entry on the page of cells."""
    return slug(record.suite, record.key[:12])


def _names(place: Place, board: Board) -> tuple[str, ...]:
    where = (place.suite, place.task, board.model, board.bits)
    return (*where, place.mode, place.protocol)
