"""What is kept of a board when its own pages are written, and of a comparison when those of it are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.records import Record
from leaderboard.boards import Board, Comparison
from leaderboard.comparing import Worked
from leaderboard.pairs import Pairs

LEFT_OUT = ("strategy", "start", "layers", "outcomes", "pictures", "traceback")

NO_PAIRS = Pairs((), ())


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


def bare(comparison: Comparison) -> Comparison:
    """Return a comparison for the pages of the whole, its rows without records and curves."""
    boards = tuple(
        replace(
            board, pairs=NO_PAIRS, origins={}, rows=tuple(replace(row, records=(), curves=()) for row in board.rows)
        )
        for board in comparison.boards
    )
    return replace(comparison, records=comparison.records[:1], boards=boards)


def _light(record: Record, known: dict[str, Any]) -> Record:
    def shared(value: Any) -> Any:
        return known.setdefault(repr(value), value)

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
