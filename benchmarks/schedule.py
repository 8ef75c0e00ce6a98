"""Which cells are left, and running them: resume from records, keep finished work, survive a failing cell.

Imports no torch unless a cell runs.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

from benchmarks import launch
from benchmarks.parallel import Parallel, Sharing
from benchmarks.pool import Job, ordered
from benchmarks.records import (
    BadRecordError,
    Record,
    iterate_records,
    key_of,
    read_record,
    record_path,
    training_folder,
    write_record,
)
from benchmarks.simulation import makespan
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
    """One cell and what would be done with it."""

    cell: Cell
    state: State
    reason: str | None
    expected_seconds: float | None


@dataclass(frozen=True)
class Plan:
    """All cells, and the seconds that those to do are expected to take; None where nothing was measured yet."""

    rows: list[PlanRow]
    expected_seconds: float | None

    def makespan(self, workers: int) -> float | None:
        """Return the seconds that so many processes are expected to take, where each takes the next cell."""
        if self.expected_seconds is None:
            return None
        jobs = [
            Job(position, row.expected_seconds, failed_before=row.state == "failed")
            for position, row in enumerate(self.rows)
            if row.state in ("to do", "failed")
        ]
        return makespan((job.seconds or 0.0 for job in ordered(jobs)), workers)


def plan(cells: Sequence[Cell], out: Path) -> Plan:
    """Say what a run would do.

    The cost of a cell is the median of what records under `out` measured for the same model, bits and method, else for
    the same method, else for any; always of the same mode.
    """
    cost = _Costs.under(out)
    rows = []
    for cell in cells:
        record = finished(cell, out)
        if record is not None and record.status == "ok":
            rows.append(PlanRow(cell, "done", None, None))
        elif cell.skip_reason is not None:
            rows.append(PlanRow(cell, "skipped", cell.skip_reason, None))
        else:
            failed = record is not None and record.status == "failed"
            state: State = "failed" if failed else "to do"
            rows.append(PlanRow(cell, state, record.reason if record and failed else None, cost.of(cell)))
    expected = [row.expected_seconds for row in rows if row.state in ("to do", "failed")]
    known = [seconds for seconds in expected if seconds is not None]
    return Plan(rows, sum(known) if len(known) == len(expected) else None)


def finished(cell: Cell, out: Path) -> Record | None:
    """Return the cell's record where there is a good one."""
    path = record_path(out, cell.suite, cell.key)
    try:
        return read_record(path) if path.is_file() else None
    except BadRecordError:
        return None


class _Costs:
    """Seconds that cells took so far, by what they have in common with a cell to come."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}
        self._typical: dict[tuple[str, ...], float] = {}

    @classmethod
    def under(cls, out: Path) -> _Costs:
        costs = cls()
        for record in iterate_records(out):
            if isinstance(record, Record) and record.search_seconds is not None:
                seconds = record.search_seconds + (record.evaluation_seconds or 0)
                for key in _common(record):
                    costs._seconds.setdefault(key, []).append(seconds)
        costs._typical = {key: median(seconds) for key, seconds in costs._seconds.items()}
        return costs

    def of(self, cell: Cell) -> float | None:
        return next((self._typical[key] for key in _common(cell) if key in self._typical), None)


def _common(of: Cell | Record) -> list[tuple[str, ...]]:
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
    for row in planned.rows:
        path = record_path(out, row.cell.suite, row.cell.key)
        try:
            if path.is_file():
                read_record(path)
        except BadRecordError as error:
            progress.warn(str(error))
    # Cells that failed before come last: those that go on failing must not keep a bounded run from the others.
    unfinished = [row.cell for state in ("to do", "failed") for row in planned.rows if row.state == state]
    to_do = unfinished[:max_cells]
    skipped = [row.cell for row in planned.rows if row.state == "skipped" and _newly_skipped(row, out)]
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
        for fresh in _records(to_do, skipped, sharing, out, progress, fail_fast):
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
                _log_others(sharing.dealt(to_do), processes, out, tracker)
            tracker.close(wait=completed)
        progress.stop()
    return [record for cell in cells if (record := finished(cell, out)) is not None]


def _newly_skipped(row: PlanRow, out: Path) -> bool:
    record = finished(row.cell, out)
    return record is None or record.status != "skipped" or record.reason != row.reason


def _check_alike(to_do: Sequence[Cell], processes: launch.Processes) -> None:
    """Raise LaunchError where the processes have not planned the same."""
    if len(set(processes.tell(key_of({"keys": [cell.key for cell in to_do]})))) > 1:
        raise launch.LaunchError(
            "the processes do not have the same cells to do. Give them the same program and suite, and by --out a "
            "folder that all machines share."
        )


def _records(
    to_do: Sequence[Cell], skipped: Sequence[Cell], sharing: Sharing, out: Path, progress: Progress, fail_fast: bool
) -> Iterator[Record]:
    """Yield the records that this process writes, each as its cell is run; torch is imported only where one is."""
    processes, failed = sharing.processes, False
    if processes.rank == 0 and skipped:
        from benchmarks.cell import identity, now

        for cell in skipped:
            progress.cell_started(cell)
            yield Record(**identity(cell, now(), sharing), status="skipped", reason=cell.skip_reason)
    if not to_do:
        return
    from benchmarks.cell import Context

    context = Context(sharing, out)
    for cell in sharing.own(to_do):
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
    for cell in shared:
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


def _log_others(to_do: Sequence[Cell], processes: launch.Processes, out: Path, tracker: Tracker) -> None:
    for position, cell in enumerate(to_do):
        if position % processes.world != processes.rank and (record := finished(cell, out)) is not None:
            tracker.log(record)


def _parameters(cells: Sequence[Cell], processes: launch.Processes) -> dict[str, str]:
    return {"suite": cells[0].suite, "cells": str(len(cells)), "processes": str(processes.world)}
