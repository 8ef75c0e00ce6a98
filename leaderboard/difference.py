"""What changes on the board from one set of records to another: its cells, and the rows that readers look at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from benchmarks.progress import cell_name, one_line
from benchmarks.records import Record
from benchmarks.submission_report import report_path
from leaderboard.accepted import SubmissionRefusedError, official, read_submission, unchecked, with_submission
from leaderboard.badges import Origins
from leaderboard.boards import Board, Comparison
from leaderboard.comparing import compare
from leaderboard.load import Index, index_of, origins_of, read_whole

Change = Literal["new", "gone", "changed"]
SHOWN = 200
"""Lines of each kind in texts; JSON has all."""


class DifferenceError(ValueError):
    """Records that cannot be compared; the message says why and what to do.

    Args:
        refused: it is a submission that cannot be read, not a path that is not there.
    """

    def __init__(self, message: str, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class Held:
    """The records that count on one side, and where they are from."""

    records: tuple[Record, ...]
    origins: Origins = field(default_factory=dict)


@dataclass(frozen=True)
class CellChange:
    """A cell that only one side has, or whose record is another one.

    Args:
        cell: suite, task, model, bits, method and seed.
        before: score, or status where there is none; None where there is no such cell.
        after: the same.
    """

    change: Change
    key: str
    cell: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Standing:
    """What a row of a board says.

    Args:
        place: from 1, by score; None where the row takes no part in ranks.
        rank: `best`, or `tied` with it.
        gain: over the bar.
        state: of the row; of a complete row that takes no part in ranks the badge that says why.
    """

    place: int | None
    rank: str | None
    score: float | None
    gain: float | None
    state: str


@dataclass(frozen=True)
class RowChange:
    """A method on a board that stands otherwise."""

    change: Change
    method: str
    before: Standing | None
    after: Standing | None


@dataclass(frozen=True)
class BoardChange:
    """A board with some row that stands otherwise.

    Args:
        board: suite, task, mode, protocol, model and bits.
        best: the complete method with the highest score, before and after.
        bar: the method that gains are over, before and after.
    """

    board: str
    best: tuple[str | None, str | None]
    bar: tuple[str | None, str | None]
    rows: tuple[RowChange, ...]


@dataclass(frozen=True)
class Difference:
    """All that changes."""

    cells: tuple[CellChange, ...]
    boards: tuple[BoardChange, ...]

    def count(self, change: Change) -> int:
        """Return how many cells changed so."""
        return sum(cell.change == change for cell in self.cells)


def load_both(before: Path, after: Path) -> tuple[Held, Held]:
    """Return what counts before and after.

    Args:
        before: a results folder.
        after: another one; or a submission, with its report beside it or as self-reported, which is added to the first.

    Raises:
        DifferenceError: not there, or a submission that cannot be read or believed.
    """
    first = _folder(before)
    if after.is_dir():
        return _held(before, first), _held(after, _folder(after))
    if not after.exists():
        raise DifferenceError(f"no folder or submission '{after}'.", False)
    first = official(first)
    try:
        submission = (read_submission if report_path(after).exists() else unchecked)(after)
    except SubmissionRefusedError as error:
        raise DifferenceError(str(error), True) from error
    return _held(before, first), _held(before, with_submission(first, submission, before))


def _folder(folder: Path) -> Index:
    if not folder.is_dir():
        raise DifferenceError(
            f"no folder '{folder}'. Name a results folder first, then another or a submission.", False
        )
    return index_of(folder)


def _held(folder: Path, index: Index) -> Held:
    records, _ = read_whole(folder, index.entries)
    return Held(tuple(records), origins_of(index.entries))


def compare_boards(before: Held, after: Held) -> Difference:
    """Return what changes from some records to others."""
    old, new = _boards(before), _boards(after)
    boards = (_board_change(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()))
    return Difference(
        tuple(_cell_changes(before.records, after.records)), tuple(board for board in boards if board is not None)
    )


def _cell_changes(first: Sequence[Record], second: Sequence[Record]) -> list[CellChange]:
    old, new = ({(record.suite, record.key): record for record in records} for records in (first, second))
    found = []
    for place in old.keys() | new.keys():
        mine, theirs = old.get(place), new.get(place)
        if mine == theirs:
            continue
        shown = theirs or mine
        assert shown is not None
        change: Change = "new" if mine is None else "gone" if theirs is None else "changed"
        name = f"{shown.suite} {shown.task} {cell_name(shown)}"
        found.append(CellChange(change, shown.key, name, _outcome(mine), _outcome(theirs)))
    return sorted(found, key=lambda cell: (("new", "gone", "changed").index(cell.change), cell.cell, cell.key))


def _outcome(record: Record | None) -> str | None:
    if record is None:
        return None
    return record.status if record.score is None else f"{record.score:.2f}"


def _boards(held: Held) -> dict[str, Board]:
    def name(comparison: Comparison, board: Board) -> str:
        where = (comparison.suite, comparison.task, comparison.mode, comparison.protocol)
        return " ".join((*where, board.model, board.bits))

    return {
        name(comparison, board): board
        for comparison in compare(held.records, held.origins)
        for board in comparison.boards
    }


def _board_change(name: str, before: Board | None, after: Board | None) -> BoardChange | None:
    old, new = _standings(before), _standings(after)
    rows = []
    for method in dict.fromkeys((*new, *old)):
        mine, theirs = old.get(method), new.get(method)
        if mine != theirs:
            change: Change = "new" if mine is None else "gone" if theirs is None else "changed"
            rows.append(RowChange(change, method, mine, theirs))
    if not rows:
        return None
    bars = (before.bar if before else None, after.bar if after else None)
    return BoardChange(name, (_best(old), _best(new)), bars, tuple(rows))


def _standings(board: Board | None) -> dict[str, Standing]:
    """Return method -> how it stands; of methods without any record on the board nothing."""
    found = {}
    places = count(1)
    for row in board.rows if board else ():
        if row.state != "missing":
            place = next(places) if row.ranked else None
            gain = None if row.gain is None else round(row.gain.value, 6)
            score = None if row.score is None else round(row.score, 6)
            state = row.badge if row.state == "complete" and not row.ranked and row.badge else row.state
            found[row.method] = Standing(place, row.rank, score, gain, state)
    return found


def _best(standings: Mapping[str, Standing]) -> str | None:
    return next((method for method, standing in standings.items() if standing.place == 1), None)


def to_plain(difference: Difference) -> dict[str, Any]:
    """Return the difference as plain JSON."""
    return asdict(difference)


def _summary(difference: Difference) -> str:
    cells = ", ".join(f"{difference.count(change)} {change}" for change in ("new", "gone", "changed"))
    return f"Cells: {cells}. Boards that change: {len(difference.boards)}."


def _arrow(before: object, after: object) -> str:
    return f"{before or '-'}" if before == after else f"{before or '-'} -> {after or '-'}"


def _number(value: float | None, signed: str = "") -> str:
    return "-" if value is None else f"{value:{signed}.2f}"


def _row_texts(row: RowChange) -> tuple[str, str, str, str, str]:
    """Return the change, the method, and its place, score and gain before and after."""
    mine, theirs = row.before, row.after

    def both(told: Any) -> str:
        return _arrow(*(told(standing) if standing else "-" for standing in (mine, theirs)))

    place = both(lambda s: s.state if s.place is None else f"{s.place}{f' ({s.rank})' if s.rank else ''}")
    return row.change, row.method, place, both(lambda s: _number(s.score)), both(lambda s: _number(s.gain, "+"))


def to_text(difference: Difference) -> str:
    """Return lines for a terminal."""
    lines = [_summary(difference)]
    for cell in difference.cells[:SHOWN]:
        lines.append(f"  {cell.change:<8}{one_line(cell.cell)}: {_arrow(cell.before, cell.after)}")
    lines += _left_out(len(difference.cells))
    for board in difference.boards[:SHOWN]:
        lines += ["", one_line(board.board), f"  best: {_arrow(*board.best)}; bar: {_arrow(*board.bar)}"]
        for change, method, place, score, gain in map(_row_texts, board.rows):
            lines.append(f"  {change:<8}{method:<24} place {place}; score {score}; gain {gain}")
    lines += _left_out(len(difference.boards))
    return "\n".join(lines) + "\n"


def _left_out(count: int) -> list[str]:
    return [f"... and {count - SHOWN} more"] if count > SHOWN else []


def to_markdown(difference: Difference) -> str:
    """Return tables for a page of GitHub; names are data, and shown as code."""
    lines = ["## What changes on the board", "", _summary(difference), ""]
    if difference.cells:
        lines += ["| | cell | before | after |", "|---|---|---|---|"]
        for cell in difference.cells[:SHOWN]:
            lines.append(f"| {cell.change} | {_code(cell.cell)} | {cell.before or ''} | {cell.after or ''} |")
        lines += [*_left_out(len(difference.cells)), ""]
    for board in difference.boards[:SHOWN]:
        best, bar = (_arrow(*(_code(name) if name else None for name in pair)) for pair in (board.best, board.bar))
        lines += [f"### {_code(board.board)}", "", f"Best: {best}. Bar: {bar}.", ""]
        lines += ["| | method | place | score | gain over the bar |", "|---|---|---|---|---|"]
        for change, method, place, score, gain in map(_row_texts, board.rows):
            lines.append(f"| {change} | {_code(method)} | {place} | {score} | {gain} |")
        lines.append("")
    lines += _left_out(len(difference.boards))
    return "\n".join(lines).rstrip("\n") + "\n"


def _code(name: str) -> str:
    """Return a name as code in a table's cell, whatever it holds."""
    return f"`{re.sub(r'[`|]', '?', one_line(name))}`"
