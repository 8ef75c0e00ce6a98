"""What a view gets and gives, and where its pages lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from benchmarks.records import Record, key_of
from leaderboard.boards import Board, Comparison, Place
from leaderboard.load import Loaded


@dataclass(frozen=True)
class Content:
    """Everything that a page of the whole can show.

    Args:
        comparisons: bare ones, the largest first.
    """

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
ComparisonView = Callable[[Comparison], Iterator[Page]]
BoardView = Callable[[Place, Board], Iterator[Page]]


@lru_cache(maxsize=16_384)
def slug(*names: str) -> str:
    """Return names as part of a path or anchor: readable, safe whatever they hold, and distinct for distinct names.

    >>> slug("resnet8", "W4A4")
    'resnet8-w4a4-509fad'
    """
    readable = "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] for name in names)
    return f"{readable}-{key_of({'names': names})[:6]}"


def comparison_anchor(place: Place) -> str:
    """Return the id of a comparison's section on the first page."""
    return slug(*_comparison_names(place))


def comparison_path(place: Place) -> str:
    """Return where the page of a comparison, all its methods and cells, lies."""
    return f"boards/{comparison_anchor(place)}.html"


def pareto_path(place: Place) -> str:
    """Return where the page with a comparison's Pareto fronts lies."""
    return f"pareto/{comparison_anchor(place)}.html"


def compare_path(place: Place) -> str:
    """Return where the page that sets two methods of a comparison against each other lies."""
    return f"compare/{comparison_anchor(place)}.html"


def cell_path(place: Place, board: Board) -> str:
    """Return where the page of a board, all methods on one model at one bit-width, lies."""
    return f"cells/{slug(*_names(place, board))}.html"


def layers_path(place: Place, board: Board) -> str:
    """Return where the layer explorer of a board lies."""
    return f"layers/{slug(*_names(place, board))}.html"


def outcomes_path(place: Place, board: Board) -> str:
    """Return where the outcome of every test image, by every record of a board, lies."""
    return f"outcomes/{slug(*_names(place, board))}.json"


def pictures_path(place: Place, board: Board) -> str:
    """Return where the page with a board's pictures lies."""
    return f"pictures/{slug(*_names(place, board))}.html"


def model_path(task: str, model: str) -> str:
    """Return where the page of a task's model lies."""
    return f"models/{slug(task, model)}.html"


def method_path(mode: str, method: str) -> str:
    """Return where the page of a method lies."""
    return f"methods/{slug(mode, method)}.html"


def record_anchor(record: Record) -> str:
    """Return the id of a record's entry on the page of its board."""
    return slug(record.suite, record.key[:12])


PATHS = (
    comparison_anchor,
    comparison_path,
    pareto_path,
    compare_path,
    cell_path,
    layers_path,
    outcomes_path,
    pictures_path,
    model_path,
    method_path,
    record_anchor,
)
"""What templates make links with."""


def _comparison_names(place: Place) -> tuple[str, ...]:
    return (place.suite, place.task, place.mode, place.protocol)


def _names(place: Place, board: Board) -> tuple[str, ...]:
    where = (place.suite, place.task, board.model, board.bits)
    return (*where, place.mode, place.protocol)
