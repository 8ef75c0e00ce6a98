"""How a suite stands: what is done, running, failed and left, told by its records and claims alone. Imports no torch.

So it works from any machine that sees the output folder, whatever runs there, and writes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from benchmarks.claims import STALE_SECONDS, Claims, Holder
from benchmarks.failures import Kind, kind_of_text
from benchmarks.pool import Job, ordered
from benchmarks.records import claims_folder
from benchmarks.scan import Memory
from benchmarks.schedule import Plan, plan
from benchmarks.simulation import makespan
from benchmarks.suite import Cell


@dataclass(frozen=True)
class Begun:
    """A cell that a process has begun.

    Args:
        seconds: since it was begun, by the clocks of both machines; None where its claim does not say when.
        silent: seconds since its process gave a sign of life, by the clocks of this machine and the file system.
        expected_seconds: how long it takes; None where nothing like it was measured yet.
        state: `ended` where the process has certainly ended, `silent` where it has not been heard of for so long that
            others may take the cell. Both are lost, and their cells left to do.
    """

    cell: Cell
    holder: Holder
    seconds: float | None
    silent: float
    expected_seconds: float | None
    state: Literal["running", "ended", "silent"]


@dataclass(frozen=True)
class Failed:
    """A cell that failed."""

    cell: Cell
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Counts:
    """Cells by how they stand; each is counted once.

    Args:
        failed: those that are being tried again are running.
        left: those that were begun by a process that is lost included.
    """

    done: int
    running: int
    failed: int
    skipped: int
    left: int


@dataclass(frozen=True)
class Status:
    """How the cells of a suite stand.

    Args:
        begun: that are running or were when their process was lost, the earliest first.
        failed: in the suite's order.
        skipped: reason -> cells that cannot run on this machine.
        expected_seconds: until none is running or left, if as many processes go on as run now; None where that is
            unknown.
    """

    suite: str
    counts: Counts
    begun: Sequence[Begun]
    failed: Sequence[Failed]
    skipped: dict[str, int]
    expected_seconds: float | None

    @property
    def is_finished(self) -> bool:
        """Whether no cell is running or left."""
        return not (self.counts.running or self.counts.left)

    @property
    def running(self) -> list[Begun]:
        """The cells whose processes are there."""
        return [begun for begun in self.begun if begun.state == "running"]

    @property
    def by_kind(self) -> dict[Kind, list[Failed]]:
        """Kind of failure -> the cells that failed so, the most frequent kind first."""
        found: dict[Kind, list[Failed]] = {}
        for failed in self.failed:
            found.setdefault(failed.kind, []).append(failed)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))


class Observer:
    """Looks at a suite, as often as wanted; after the first time it reads only the records that have changed.

    Args:
        cells: of one suite, at least one.
        out: the output folder.
    """

    def __init__(self, cells: Sequence[Cell], out: Path) -> None:
        self._cells, self._out = cells, out
        self._memory = Memory()
        self._claims = Claims(claims_folder(out, cells[0].suite))

    def look(self, now: float) -> Status:
        """Return how it stands.

        Args:
            now: the time, as of time.time().

        Raises:
            OSError: a folder is there and cannot be read.
        """
        # Claims first: a cell that ends meanwhile has its record then, which counts for more.
        held = self._claims.held()
        return _status(self._cells[0].suite, plan(self._cells, self._out, self._memory), held, now)


def _status(suite: str, planned: Plan, held: dict[str, tuple[Holder, float]], now: float) -> Status:
    begun: list[Begun] = []
    failed: list[Failed] = []
    waiting: list[float | None] = []
    counts, skipped = Counter[str](), Counter[str]()
    for row in planned.rows:
        claim = held.get(row.cell.key) if row.state in ("to do", "failed") else None
        if claim is not None:
            begun.append(_begun(row.cell, *claim, row.expected_seconds, now))
        if claim is not None and begun[-1].state == "running":
            counts["running"] += 1
        elif row.state == "failed":
            counts["failed"] += 1
            reason = row.reason or "no reason recorded"
            failed.append(Failed(row.cell, kind_of_text(reason), reason))
        elif row.state == "to do":
            counts["left"] += 1
            waiting.append(row.expected_seconds)
        else:
            counts[row.state] += 1
            skipped.update([row.reason] if row.reason else [])
    begun.sort(key=lambda one: (one.holder.since or "", one.holder.host, one.holder.process or 0))
    running = [one for one in begun if one.state == "running"]
    return Status(
        suite,
        Counts(*(counts[name] for name in ("done", "running", "failed", "skipped", "left"))),
        begun,
        failed,
        dict(skipped),
        _expected(running, waiting),
    )


def _begun(cell: Cell, holder: Holder, renewed: float, expected: float | None, now: float) -> Begun:
    silent = max(0.0, now - renewed)
    state: Literal["running", "ended", "silent"] = "silent" if silent > STALE_SECONDS else "running"
    return Begun(cell, holder, _since(holder, now), silent, expected, "ended" if holder.is_gone else state)


def _since(holder: Holder, now: float) -> float | None:
    try:
        return None if holder.since is None else max(0.0, now - datetime.fromisoformat(holder.since).timestamp())
    except ValueError:
        return None


def _expected(running: Sequence[Begun], waiting: Sequence[float | None]) -> float | None:
    """Return the seconds until all is done by the processes that run, None without any or where a cost is unknown."""
    going = [
        None if one.expected_seconds is None else max(0.0, one.expected_seconds - (one.seconds or 0.0))
        for one in running
    ]
    known = [seconds for seconds in going if seconds is not None]
    jobs = ordered(Job(position, seconds) for position, seconds in enumerate(waiting) if seconds is not None)
    if not (running or waiting):
        return 0.0
    if not running or len(known) < len(running) or len(jobs) < len(waiting):
        return None
    # What they are in the middle of comes first, to each its own.
    return makespan([*known, *(job.seconds or 0.0 for job in jobs)], len(running))


def to_json(status: Status, repeat: Callable[[Cell], str]) -> str:
    """Return a status as JSON, on one line.

    Args:
        status: what to write.
        repeat: returns the command that runs a cell alone.
    """
    return json.dumps(
        {
            "suite": status.suite,
            "cells": sum(asdict(status.counts).values()),
            **asdict(status.counts),
            "expected_seconds": status.expected_seconds,
            "begun": [
                {
                    **_named(begun.cell),
                    "state": begun.state,
                    "host": begun.holder.host,
                    "process": begun.holder.process,
                    "since": begun.holder.since,
                    "seconds": begun.seconds,
                    "silent_seconds": begun.silent,
                    "expected_seconds": begun.expected_seconds,
                }
                for begun in status.begun
            ],
            "failures": [
                {
                    **_named(failed.cell),
                    "kind": failed.kind,
                    "reason": failed.reason,
                    "command": repeat(failed.cell),
                }
                for failed in status.failed
            ],
            "skipped_because": status.skipped,
        }
    )


def _named(cell: Cell) -> dict[str, str | int | None]:
    names = ("key", "model", "bits", "mode", "method", "protocol", "seed")
    return {name: getattr(cell, name) for name in names}
