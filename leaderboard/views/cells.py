"""Where each number is from: every record that counts, with its key and the command that runs its cell again."""

from __future__ import annotations

from collections.abc import Iterator

from leaderboard.views.base import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the page of cells."""
    yield Page("cells.html", "cells.html", {"comparisons": content.comparisons, "loaded": content.loaded})
