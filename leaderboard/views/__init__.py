"""The pages of the site. To add one: a file with a function `pages(content)`, and a line here."""

from __future__ import annotations

from leaderboard.views import about, cells, compare, comparison, methods, models, overview, pareto, pictures, strategies
from leaderboard.views.base import View

# The overview is written last, so that it never links to a page that is not there yet.
VIEWS: tuple[View, ...] = (
    strategies.pages,
    pictures.pages,
    cells.pages,
    pareto.pages,
    compare.pages,
    comparison.pages,
    models.pages,
    methods.pages,
    about.pages,
    overview.pages,
)
