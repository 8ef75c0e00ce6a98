"""Records as pages of the whole need them: without what only the pages of their own board show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.records import Record
from leaderboard.boards import Board
from leaderboard.comparing import Worked

POINTS = 120
"""The most that a curve keeps."""

LEFT_OUT = ("strategy", "start", "layers", "outcomes", "pictures", "traceback")


def thinned(worked: Worked) -> Worked:
    """Return a board whose records are light: no strategy, layers, outcomes, pictures, ids; and curves of few points.

    What is equal among its records is there once.
    """
    known: dict[str, Any] = {}
    light = {id(record): _light(record, known) for record in worked.records}
    board: Board = replace(
        worked.board,
        rows=tuple(
            replace(row, records=tuple(light[id(record)] for record in row.records)) for row in worked.board.rows
        ),
    )
    return replace(worked, board=board, records=tuple(light[id(record)] for record in worked.records))


def thinned_curve(values: Sequence[float]) -> list[float]:
    """Return at most POINTS of a curve's values, evenly spaced, the first and the last among them.

    >>> thinned_curve([0.0, 1.0, 2.0])
    [0.0, 1.0, 2.0]
    >>> found = thinned_curve(range(1000))
    >>> len(found), found[:2], found[-2:]
    (120, [0, 8], [991, 999])
    """
    last = len(values) - 1
    if last < POINTS:
        return list(values)
    return [values[round(i * last / (POINTS - 1))] for i in range(POINTS)]


def _light(record: Record, known: dict[str, Any]) -> Record:
    def shared(value: Any) -> Any:
        return known.setdefault(json.dumps(value, sort_keys=True), value)

    return record.model_copy(
        update={
            **dict.fromkeys(LEFT_OUT),
            "ids": {},
            "curves": {name: thinned_curve(values) for name, values in record.curves.items()},
            "definition": {name: shared(value) for name, value in record.definition.items()},
            "versions": shared(record.versions),
            "hardware": shared(record.hardware),
        }
    )
