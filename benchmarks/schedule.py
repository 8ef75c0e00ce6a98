"""Which cells are left, and running them: resume from records, keep finished work, survive a failing cell.

Imports no torch unless a cell runs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

from benchmarks import launch
from benchmarks.claims import Claims, in_turn
from benchmarks.parallel import Parallel, Sharing
from benchmarks.progress import counted
from benchmarks.records import (
    BadRecordError,
    Record,
    claims_folder,
    key_of,
    read_record,
    record_path,
    training_folder,
    write_record,
)
from benchmarks.scan import Brief, Scan, look, scan_all
from benchmarks.storage import delete_orphans, set_aside
from benchmarks.suite import Cell
from benchmarks.tracking import Tracker

if TYPE_CHECKING:
    from benchmarks.cell import Context

State = Literal["done", "skipped", "failed", "to do"]


class Progress(Protocol):
    """Is told how a run goes on."""

    def start(self, total: int, done: int, expected_seconds: float | None) -> None:
        """A run begins: cells in all, those already done, and how long the rest is expected to take."""

    def cell_started(self, cell: Cell) -> None:
        """A cell begins."""

    def stage(self, name: str, done: int, total: int) -> None:
        """The running cell went on within a stage."""

    def cell_finished(self, record: Record) -> None:
        """A cell's record is written."""

    def warn(self, message: str) -> None:
        """Something went wrong that does not end the run."""

    def stop(self) -> None:
        """The run ends."""


@dataclass(frozen=True)
class PlanRow:
    """One cell and what would be done with it.

    Args:
        record: the one that is there, in brief.
    """

    cell: Cell
    state: State
    reason: str | None
    expected_seconds: float | None
    record: Brief | None = None


@dataclass(frozen=True)
class Plan:
    """All cells.

    Args:
        expected_seconds: what those to do are expected to take; None where nothing was measured yet.
        parts: files that others are writing, or were when they were killed.
    """

    rows: list[PlanRow]
    expected_seconds: float | None
    parts: Sequence[Path] = ()


def plan(cells: Sequence[Cell], out: Path) -> Plan:
    """Say what a run would do.

    The cost of a cell is the median of what records under `out` measured for the same model, bits and method, else for
    the same method, else for any; always of the same mode.
    """
    there = scan_all(out)
    cost = _Costs.of_records(there)
    rows = []
    for cell in cells:
        folder = there.get(cell.suite, Scan())
        record = folder.briefs.get(cell.key)
        if record is not None and record.status == "ok":
            rows.append(PlanRow(cell, "done", None, None, record))
        elif cell.skip_reason is not None:
            rows.append(PlanRow(cell, "skipped", cell.skip_reason, None, record))
        elif record is not None and record.status == "failed":
            rows.append(PlanRow(cell, "failed", record.reason, cost.of(cell), record))
        else:
            bad = folder.faults.get(cell.key)
            reason = None if bad is None else f"its record was {bad.fault}"
            rows.append(PlanRow(cell, "to do", reason, cost.of(cell), record))
    expected = [row.expected_seconds for row in rows if row.state in ("to do", "failed")]
    known = [seconds for seconds in expected if seconds is not None]
    parts = [part for folder in there.values() for part in folder.parts]
    return Plan(rows, sum(known) if len(known) == len(expected) else None, parts)


class _Costs:
    """Seconds that cells took so far, by what they have in common with a cell to come."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        self._typical: dict[tuple[str, ...], float] = {}

    @classmethod
    def of_records(cls, there: Mapping[str, Scan]) -> _Costs:
        costs = cls()
        for record in (record for folder in there.values() for record in folder.briefs.values()):
            if record.seconds is not None:
                for key in _common(record):
                    costs._seconds.setdefault(key, []).append(record.seconds)
        costs._typical = {key: median(seconds) for key, seconds in costs._seconds.items()}
        return costs

    def of(self, cell: Cell) -> float | None:
        return next((self._typical[key] for key in _common(cell) if key in self._typical), None)


def _common(of: Cell | Brief) -> list[tuple[str, ...]]:
    mode, model = of.mode, (of.task, of.model)
    return [(mode, *model, of.bits, of.method), (mode, *model, of.method), (mode, of.method), (mode,)]


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    progress: Progress,
    *,
    fail_fast: bool,
    max_cells: int | None,
    parallel: Parallel = "cells",
) -> list[Record]:
    """Run the cells that are not done yet and return every record of `cells` that exists afterwards.

    Under `accelerate launch` the processes share the cells, those that are dealt out first; rank 0 alone tracks and
    reports the whole.

    Args:
        parallel: how they share those that train, as of Sharing.
        fail_fast: stop after the first cell that fails.
        max_cells: run this many at most; None for no limit.

    Raises:
        LaunchError: the launcher started fewer processes than asked for, they do not see the same records, one of them
            was lost, or a suite asks for a training that they cannot run.
        OSError: `out` cannot be written.
    """
    processes = launch.join()
    sharing = Sharing(processes, parallel)
    planned = plan(cells, out)
    delete_orphans(planned.parts)
    left_over = _Left(planned, out, progress)
    # Cells that failed before come last: those that go on failing must not keep a bounded run from the others.
    unfinished = [row.cell for state in ("to do", "failed") for row in planned.rows if row.state == state]
    to_do = unfinished[:max_cells]
    skipped = [row.cell for row in planned.rows if row.state == "skipped" and _newly_skipped(row)]
    left = len(unfinished) + len(skipped)
    sharing.check(to_do)
    # The shares fit together only where all have planned from the same records.
    processes.meet()
    if sharing.parallel == "data":
        _check_alike(to_do, processes)
    progress.start(len(cells), len(cells) - left, planned.expected_seconds if max_cells is None else None)
    tracker = Tracker(out, progress.warn) if processes.rank == 0 and cells else None
    completed = False
    try:
        if tracker is not None:
            tracker.start(cells[0].suite, _parameters(cells, processes))
        # Closed at once, whatever happens, so that no other run waits for what this one has claimed.
        with closing(_records(to_do, skipped, left_over, sharing, out, progress, fail_fast)) as records:
            for fresh in records:
                write_record(out, fresh)
                if tracker is not None:
                    tracker.log(fresh)
                progress.cell_finished(fresh)
        processes.meet()
        completed = True
        if tracker is not None:
            # It stays where a training that failed or was stopped is kept.
            with suppress(OSError):
                training_folder(out, cells[0].suite).rmdir()
    finally:
        if tracker is not None:
            if completed and processes.world > 1:
                _log_others(sharing.dealt(to_do), processes, out, tracker, progress)
            Claims(claims_folder(out, cells[0].suite)).close()
            tracker.close(wait=completed)
        progress.stop()
    return list(_finished_records(cells, out, progress))


def _finished_records(cells: Sequence[Cell], out: Path, progress: Progress) -> Iterator[Record]:
    """Yield the records that are there, less what only a single test image says; set aside what is none after all."""
    for cell in cells:
        path = record_path(out, cell.suite, cell.key)
        if path.exists():
            try:
                yield read_record(path).model_copy(update={"outcomes": None, "pictures": None, "curves": {}})
            except BadRecordError as error:
                _set_aside(error, progress)


def _set_aside(bad: BadRecordError, progress: Progress) -> None:
    with suppress(FileNotFoundError):
        kept = set_aside(bad.path)
        progress.warn(f"{bad.path}: {bad.fault}. It is kept as {kept.name}, and its cell runs again.")


class _Left:
    """Whether cells are still to be run: not where another run has written their record since the plan was made."""

    def __init__(self, planned: Plan, out: Path, progress: Progress) -> None:
        self._out, self._progress = out, progress
        self._planned_from = {row.cell.key: row.record.checksum for row in planned.rows if row.record is not None}

    def __call__(self, cell: Cell) -> bool:
        path = record_path(self._out, cell.suite, cell.key)
        found = look(path)
        if isinstance(found, BadRecordError):
            _set_aside(found, self._progress)
            return True
        if found is None or found.checksum == self._planned_from.get(cell.key):
            return True
        with suppress(BadRecordError):
            self._progress.cell_finished(read_record(path))
        return False


def _newly_skipped(row: PlanRow) -> bool:
    return row.record is None or row.record.status != "skipped" or row.record.reason != row.reason


def _check_alike(to_do: Sequence[Cell], processes: launch.Processes) -> None:
    """Raise LaunchError where the processes have not planned the same."""
    if len(set(processes.tell(key_of({"keys": [cell.key for cell in to_do]})))) > 1:
        raise launch.LaunchError(
            "the processes do not have the same cells to do. Give them the same program and suite, and by --out a "
            "folder that all machines share."
        )


def _records(
    to_do: Sequence[Cell],
    skipped: Sequence[Cell],
    is_left: Callable[[Cell], bool],
    sharing: Sharing,
    out: Path,
    progress: Progress,
    fail_fast: bool,
) -> Generator[Record]:
    """Yield the records that this process writes, each as its cell is run; torch is imported only where one is."""
    processes, failed = sharing.processes, False
    if processes.rank == 0 and skipped:
        from benchmarks.cell import identity, now

        for cell in filter(is_left, skipped):
            progress.cell_started(cell)
            yield Record(**identity(cell, now(), sharing), status="skipped", reason=cell.skip_reason)
    if not to_do:
        return
    from benchmarks.cell import Context

    context = Context(sharing, out)
    claims = Claims(claims_folder(out, to_do[0].suite))

    def waiting(for_cells: Sequence[Cell]) -> None:
        holders = dict.fromkeys(str(claims.holder(cell.key) or "a process that just ended") for cell in for_cells)
        progress.warn(f"{counted(len(for_cells))} left, which another run has begun ({', '.join(holders)}). Waiting.")

    for cell in in_turn(sharing.own(to_do), claims, is_left, str, waiting):
        progress.cell_started(cell)
        fresh = _attempt(cell, context, progress)
        yield fresh
        failed = fresh.status == "failed"
        if fail_fast and failed:
            break
    if shared := sharing.shared(to_do):
        # Some may have had a longer share than others.
        processes.meet()
        failed = any(processes.tell("failed" if failed else ""))
    leading = claims if processes.rank == 0 else None
    for cell in in_turn(shared, leading, is_left, lambda word: processes.tell(word)[0], waiting):
        if fail_fast and failed:
            return
        progress.cell_started(cell)
        fresh = _attempt_together(cell, context, out, progress)
        failed = fresh.status == "failed"
        if processes.rank == 0:
            yield fresh


def _attempt(cell: Cell, context: Context, progress: Progress) -> Record:
    from benchmarks.cell import identity, now, run_cell

    started = now()
    try:
        return run_cell(cell, context, progress.stage)
    except Exception as error:
        return Record(
            **identity(cell, started, context.sharing),
            status="failed",
            reason=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
        )


def _attempt_together(cell: Cell, context: Context, out: Path, progress: Progress) -> Record:
    """Run a cell that all processes work on; where it fails in one of them it has failed in all.

    Raises:
        LaunchError: the others have not ended the cell with this process: one that failed alone leaves them waiting in
            the middle of a step, and the run has to end. It writes the record of that. Where another process is gone,
            what failed here is its consequence, and the cell is still to do.
    """
    fresh = _attempt(cell, context, progress)
    try:
        reasons = context.sharing.processes.tell(fresh.reason or "")
    except launch.GoneError:
        raise
    except launch.LaunchError:
        if fresh.status == "failed":
            write_record(out, fresh)
        raise
    if fresh.status == "ok" and any(reasons):
        rank, reason = next((rank, reason) for rank, reason in enumerate(reasons) if reason)
        from benchmarks.cell import identity

        known = identity(cell, fresh.started, context.sharing)
        return Record(**known, status="failed", reason=f"process {rank}: {reason}")
    return fresh


def _log_others(
    to_do: Sequence[Cell], processes: launch.Processes, out: Path, tracker: Tracker, progress: Progress
) -> None:
    others = [cell for position, cell in enumerate(to_do) if position % processes.world != processes.rank]
    for record in _finished_records(others, out, progress):
        tracker.log(record)


def _parameters(cells: Sequence[Cell], processes: launch.Processes) -> dict[str, str]:
    return {"suite": cells[0].suite, "cells": str(len(cells)), "processes": str(processes.world)}
