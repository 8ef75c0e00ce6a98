"""The cells that processes take one by one: each the next, until all have their records."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic, sleep
from typing import TYPE_CHECKING

from benchmarks.claims import Claims
from benchmarks.failures import POLICIES
from benchmarks.launch import GoneError, LaunchError
from benchmarks.parallel import Sharing
from benchmarks.pool import Job, Lease, Wait
from benchmarks.records import Record
from benchmarks.runner import Runner
from benchmarks.shared_pool import SharedPool, agreed
from benchmarks.storage import StorageError
from benchmarks.suite import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.schedule import Progress

LEASE_SECONDS = 60.0
"""How long the cell of a process that is lost stays with it."""
ASK_SECONDS = 2.0
"""How soon at most a process that has nothing to do asks again."""


def dealt(
    jobs: Sequence[Job[str]],
    cells: Mapping[str, Cell],
    sharing: Sharing,
    claims: Claims,
    is_left: Callable[[Cell], bool],
    runner: Runner,
    retries: int | None,
    progress: Progress,
    fail_fast: bool,
) -> Generator[Record]:
    """Yield the records of the cells that this process takes; each is to be written before the next is asked for.

    Args:
        jobs: all that there is to do, by the cells' keys.
        cells: key -> cell, of all that other processes may have to do too.
        sharing: this process among those that share them.
        claims: by which other runs on the same folder are kept off.
        is_left: whether nobody has written the cell's record meanwhile.
        runner: runs the cells.
        retries: as of run_cells.
        progress: is told what happens.
        fail_fast: whether the first failed cell is to be the last of all processes.

    Raises:
        LaunchError: the processes do not have the same cells, or lost each other.
        StorageError: nothing can be written any more.
    """
    store = sharing.processes.store()
    planned = agreed(store, jobs)
    if any(job.id not in cells for job in planned):
        raise LaunchError(
            "the processes do not have the same cells to do. Give them the same program and suite, and by --out a "
            "folder that all machines share."
        )
    pool, told = SharedPool(store, planned, sharing.processes.rank, LEASE_SECONDS), set[str]()
    while (lease := pool.take()) is not None:
        if isinstance(lease, Wait):
            sleep(min(max(lease.until - monotonic(), 0.0), ASK_SECONDS))
            continue
        cell = cells[lease.id]
        claim = claims.claim(cell.key)
        if claim is None:
            # Who holds the claim may have ended the cell, and hang.
            if not is_left(cell):
                pool.finish(lease)
                continue
            if cell.key not in told:
                told.add(cell.key)
                holder = claims.holder(cell.key) or "a process that just ended"
                progress.warn(f"{cell.model} {cell.bits} {cell.method}: another run has begun it ({holder}). Waiting.")
            pool.put_back(lease, ASK_SECONDS)
            continue
        with claim, _renewing(pool, lease):
            # Nobody else writes the record from here on.
            if not is_left(cell):
                pool.finish(lease)
                continue
            progress.cell_started(cell)
            fresh = _tried(cell, lease, pool, claims, runner, retries, sharing, progress)
            if fresh is None:
                continue
            yield fresh
            pool.finish(lease)
        if fail_fast and fresh.status == "failed":
            pool.stop()


def _tried(
    cell: Cell,
    lease: Lease[str],
    pool: SharedPool[str],
    claims: Claims,
    runner: Runner,
    retries: int | None,
    sharing: Sharing,
    progress: Progress,
) -> Record | None:
    """Return the record of a cell, None where it is to be tried again or another process has it."""
    if lease.hopeless:
        from benchmarks.cell import identity, now

        reason = "the processes that ran it were lost, one after the other. See their logs, and try it alone."
        return Record(**identity(cell, now(), sharing), status="failed", reason=reason)
    record, kind = runner.run(cell, progress.stage)
    if kind is None:
        return record
    policy = POLICIES[kind]
    if policy.then == "stop":
        pool.stop()
        raise StorageError(claims.folder.parent, OSError(record.reason))
    if retries is not None:
        policy = replace(policy, retries=retries)
    verdict = pool.fail(lease, policy)
    if verdict == "again":
        pause = policy.pause_after(lease.failures + 1)
        progress.warn(f"{cell.model} {cell.bits} {cell.method}: {record.reason} ({kind}). Again in {pause:g} s.")
    return record if verdict == "last" else None


@contextmanager
def _renewing(pool: SharedPool[str], lease: Lease[str]) -> Iterator[None]:
    """Keep a cell in the hands of this process."""
    ended = threading.Event()

    def renew() -> None:
        # What it finds out, that the others are gone, this process finds out too.
        with suppress(GoneError):
            while not ended.wait(LEASE_SECONDS / 4) and pool.renew(lease):
                pass

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
