"""The outcome of every test image by every record of a board, as one file of data: what all its numbers are made of."""

from __future__ import annotations

from collections.abc import Iterator

from leaderboard.boards import Board, Place
from leaderboard.views.base import Page, outcomes_path


def pages(place: Place, board: Board) -> Iterator[Page]:
    """Yield the file; `docs/adr/0011-site.md` and the page "About" say how to read it."""
    records = [record for row in board.rows for record in row.ok if record.outcomes is not None]
    if records:
        data = {
            "suite": place.suite,
            "suite_version": place.suite_version,
            "task": place.task,
            "mode": place.mode,
            "protocol": place.protocol,
            "model": board.model,
            "bits": board.bits,
            "records": [
                {
                    "key": record.key,
                    "method": record.method,
                    "seed": record.seed,
                    "score": record.score,
                    "ids": record.ids.get("test"),
                    **record.outcomes.model_dump(),
                }
                for record in records
                if record.outcomes is not None
            ],
        }
        yield Page(outcomes_path(place, board), "outcomes.json", {"data": data})
