"""Records as pages of the whole need them: without what only the pages of their own board show."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from benchmarks.records import Record
from leaderboard.boards import Board
from leaderboard.comparing import Worked

LEFT_OUT = ("strategy", "start", "layers", "outcomes", "pictures", "traceback")


def thinned(worked: Worked) -> Worked:
    """Return a board whose records are light: no strategy, layers, curves, outcomes, pictures, ids.

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


def _light(record: Record, known: dict[str, Any]) -> Record:
    def shared(value: Any) -> Any:
        return known.setdefault(json.dumps(value, sort_keys=True), value)

    return record.model_copy(
        update={
            **dict.fromkeys(LEFT_OUT),
            "ids": {},
            "curves": {},
            "definition": {name: shared(value) for name, value in record.definition.items()},
            "versions": shared(record.versions),
            "hardware": shared(record.hardware),
        }
    )
