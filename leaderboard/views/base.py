"""What a view gets and gives, and where its pages lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.records import Record, key_of
from leaderboard.boards import Board, Comparison
from leaderboard.load import Loaded


@dataclass(frozen=True)
class Content:
    """Everything a page can show."""

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


def slug(*names: str) -> str:
    """Return names as part of a path or anchor: readable, safe whatever they hold, and distinct for distinct names.

    >>> slug("resnet8", "W4A4")
    'resnet8-w4a4-509fad'
    """
    readable = "-".join(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] for name in names)
    return f"{readable}-{key_of({'names': names})[:6]}"


def comparison_anchor(comparison: Comparison) -> str:
    """Return the id of a comparison's section on the first page."""
    return slug(*_comparison_names(comparison))


def comparison_path(comparison: Comparison) -> str:
    """Return where the page of a comparison, all its methods and cells, lies."""
    return f"boards/{comparison_anchor(comparison)}.html"


def pareto_path(comparison: Comparison) -> str:
    """Return where the page with a comparison's Pareto fronts lies."""
    return f"pareto/{comparison_anchor(comparison)}.html"


def compare_path(comparison: Comparison) -> str:
    """Return where the page that sets two methods of a comparison against each other lies."""
    return f"compare/{comparison_anchor(comparison)}.html"


def cell_path(comparison: Comparison, board: Board) -> str:
    """Return where the page of a board, all methods on one model at one bit-width, lies."""
    return f"cells/{slug(*_names(comparison, board))}.html"


def layers_path(comparison: Comparison, board: Board) -> str:
    """Return where the layer explorer of a board lies."""
    return f"layers/{slug(*_names(comparison, board))}.html"


def pictures_path(comparison: Comparison, board: Board) -> str:
    """Return where the page with a board's pictures lies."""
    return f"pictures/{slug(*_names(comparison, board))}.html"


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
    pictures_path,
    model_path,
    method_path,
    record_anchor,
)
"""What templates make links with."""


def _comparison_names(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.suite, comparison.task, comparison.mode, comparison.protocol)


def _names(comparison: Comparison, board: Board) -> tuple[str, ...]:
    where = (comparison.suite, comparison.task, board.model, board.bits)
    return (*where, comparison.mode, comparison.protocol)
