"""The pages of the site. To add one: a file with a function `pages`, and a line here."""

from __future__ import annotations

from leaderboard.views import (
    about,
    cells,
    compare,
    comparison,
    layers,
    methods,
    models,
    outcomes,
    overview,
    pareto,
    pictures,
)
from leaderboard.views.base import BoardView, ComparisonView, View

BOARD_VIEWS: tuple[BoardView, ...] = (layers.pages, pictures.pages, outcomes.pages)
"""Pages of one board, which show what only its records have whole. They are made while the board is worked out."""

COMPARISON_VIEWS: tuple[ComparisonView, ...] = (cells.pages, pareto.pages, compare.pages, comparison.pages)
"""Pages of one comparison, made when all of its boards are; records are light there, as `leaderboard.thin` leaves them.
"""

# The overview is written last, so that it never links to a page that is not there yet.
VIEWS: tuple[View, ...] = (
    models.pages,
    methods.pages,
    about.pages,
    overview.pages,
)
"""Pages of the whole; comparisons are bare there, as `leaderboard.thin` leaves them."""
