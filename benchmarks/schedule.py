"""Which cells are left, and running them: resume from records, keep finished work, survive a failing cell.

Imports no torch unless a cell runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, Protocol

from benchmarks import launch
from benchmarks.claims import Claims, in_turn
from benchmarks.dealing import dealt
from benchmarks.heartbeat import Heartbeat, end_process
from benchmarks.parallel import Parallel, Sharing
from benchmarks.pool import Job, ordered
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
from benchmarks.runner import Inline, Runner
from benchmarks.scan import Brief, Memory, Scan, look, scan_all
from benchmarks.simulation import makespan
from benchmarks.storage import delete_orphans, set_aside
from benchmarks.suite import Cell
from benchmarks.tracking import Tracker

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


def plan(cells: Sequence[Cell], out: Path, memory: Memory | None = None) -> Plan:
    """Say what a run would do.

    The cost of a cell is the median of what records under `out` measured for the same model, bits and method, else for
    the same method, else for any; always of the same mode.

    Args:
        memory: of earlier plans, by one who plans again and again.
    """
    there = scan_all(out, memory)
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
    runner_of: Callable[[Sharing, Path], Runner] = Inline,
    retries: int | None = None,
) -> list[Record]:
    """Run the cells that are not done yet and return every record of `cells` that exists afterwards.

    Where there are several processes each takes the next cell; rank 0 alone tracks and reports the whole.

    Args:
        parallel: how they share those that train, as of Sharing.
        fail_fast: stop after the first cell that fails.
        max_cells: run this many at most; None for no limit.
        runner_of: makes what runs the cells that this process takes.
        retries: how often a cell that failed is tried again, whatever the kind of failure; None: as failures.py has it.

    Raises:
        LaunchError: the launcher started fewer processes than asked for, they do not see the same records, one of them
            was lost, or a suite asks for a training that they cannot run.
        OSError: `out` cannot be written.
    """
    processes = launch.join()
    sharing, own = Sharing(processes, parallel), set[str]()
    planned = plan(cells, out)
    delete_orphans(planned.parts)
    left_over = _Left(planned, out, progress)
    # Cells that failed before come last: those that go on failing must not keep a bounded run from the others.
    unfinished = [row.cell for state in ("to do", "failed") for row in planned.rows if row.state == state]
    to_do = unfinished[:max_cells]
    skipped = [row.cell for row in planned.rows if row.state == "skipped" and _newly_skipped(row)]
    left = len(unfinished) + len(skipped)
    sharing.check(to_do)
    if sharing.parallel == "data":
        # What all of them train together they must all take in the same order.
        processes.gather()
        _check_alike(to_do, processes)
    listening = _listening(sharing)
    progress.start(len(cells), len(cells) - left, planned.expected_seconds if max_cells is None else None)
    tracker = Tracker(out, progress.warn) if processes.rank == 0 and cells else None
    runner = runner_of(sharing, out)
    completed = False
    try:
        if tracker is not None:
            tracker.start(cells[0].suite, _parameters(cells, processes))
        # Closed at once, whatever happens, so that no other run waits for what this one has claimed.
        given = planned, to_do, skipped, left_over, sharing, runner, retries, out, progress, fail_fast
        with listening, closing(_records(*given)) as records:
            for fresh in records:
                write_record(out, fresh)
                own.add(fresh.key)
                if tracker is not None:
                    tracker.log(fresh)
                progress.cell_finished(fresh)
        if sharing.parallel == "data":
            processes.meet()
        completed = True
        if tracker is not None:
            # It stays where a training that failed or was stopped is kept.
            with suppress(OSError):
                training_folder(out, cells[0].suite).rmdir()
    finally:
        if tracker is not None:
            if completed and processes.world > 1:
                _log_others([cell for cell in to_do if cell.key not in own], out, tracker, progress)
            Claims(claims_folder(out, cells[0].suite)).close()
            tracker.close(wait=completed)
        runner.close()
        progress.stop()
    return list(_finished_records(cells, out, progress))


def _listening(sharing: Sharing) -> AbstractContextManager[object]:
    """Return what ends this process where others that it would wait for are silent."""
    processes = sharing.processes
    if sharing.parallel != "data" or processes.world == 1:
        return nullcontext()
    return Heartbeat(processes.store(), processes.rank, processes.world, end_process)


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
    """Whether cells are still to be run: not where another run has written their record since the plan was made.

    Nor where their record was good already: a process that began late is given cells that the others had planned.
    """

    def __init__(self, planned: Plan, out: Path, progress: Progress) -> None:
        self._out, self._progress = out, progress
        self._done = {row.cell.key for row in planned.rows if row.state == "done"}
        self._planned_from = {row.cell.key: row.record.checksum for row in planned.rows if row.record is not None}

    def __call__(self, cell: Cell) -> bool:
        path = record_path(self._out, cell.suite, cell.key)
        found = look(path)
        if isinstance(found, BadRecordError):
            _set_aside(found, self._progress)
            return True
        if found is None:
            return True
        if found.checksum == self._planned_from.get(cell.key):
            return cell.key not in self._done
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
    planned: Plan,
    to_do: Sequence[Cell],
    skipped: Sequence[Cell],
    is_left: Callable[[Cell], bool],
    sharing: Sharing,
    runner: Runner,
    retries: int | None,
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
    claims, rows = Claims(claims_folder(out, to_do[0].suite)), {row.cell.key: row for row in planned.rows}

    def waiting(for_cells: Sequence[Cell]) -> None:
        holders = dict.fromkeys(str(claims.holder(cell.key) or "a process that just ended") for cell in for_cells)
        progress.warn(f"{counted(len(for_cells))} left, which another run has begun ({', '.join(holders)}). Waiting.")

    jobs = [
        Job(
            cell.key,
            # A process that is alone keeps the suite's order, in which cells of one model stand together.
            rows[cell.key].expected_seconds if processes.world > 1 else None,
            failed_before=rows[cell.key].state == "failed",
        )
        for cell in sharing.dealt(to_do)
    ]
    if jobs:
        # Others may have planned before this process began, and more: all of the suite's cells.
        known = {key: row.cell for key, row in rows.items()}
        with closing(dealt(jobs, known, sharing, claims, is_left, runner, retries, progress, fail_fast)) as records:
            for fresh in records:
                failed = failed or fresh.status == "failed"
                yield fresh
    if shared := sharing.shared(to_do):
        # Some may have had a longer share than others.
        processes.meet()
        failed = any(processes.tell("failed" if failed else ""))
        together = Inline(sharing, out)
    leading = claims if processes.rank == 0 else None
    for cell in in_turn(shared, leading, is_left, lambda word: processes.tell(word)[0], waiting):
        if fail_fast and failed:
            return
        progress.cell_started(cell)
        fresh = _attempt_together(cell, together, sharing, progress, out)
        failed = fresh.status == "failed"
        if processes.rank == 0:
            yield fresh


def _attempt_together(cell: Cell, runner: Runner, sharing: Sharing, progress: Progress, out: Path) -> Record:
    """Run a cell that all processes work on; where it fails in one of them it has failed in all.

    Raises:
        LaunchError: the others have not ended the cell with this process: one that failed alone leaves them waiting in
            the middle of a step, and the run has to end. It writes the record of that. Where another process is gone,
            what failed here is its consequence, and the cell is still to do.
    """
    fresh = runner.run(cell, progress.stage).record
    try:
        reasons = sharing.processes.tell(fresh.reason or "")
    except launch.GoneError:
        raise
    except launch.LaunchError:
        if fresh.status == "failed":
            write_record(out, fresh)
        raise
    if fresh.status == "ok" and any(reasons):
        rank, reason = next((rank, reason) for rank, reason in enumerate(reasons) if reason)
        from benchmarks.cell import identity

        return Record(**identity(cell, fresh.started, sharing), status="failed", reason=f"process {rank}: {reason}")
    return fresh


def _log_others(others: Sequence[Cell], out: Path, tracker: Tracker, progress: Progress) -> None:
    for record in _finished_records(others, out, progress):
        tracker.log(record)


def _parameters(cells: Sequence[Cell], processes: launch.Processes) -> dict[str, str]:
    return {"suite": cells[0].suite, "cells": str(len(cells)), "processes": str(processes.world)}
