"""Who runs a cell: this process, or a child of it that may be killed, run out of memory or be stopped after a time.

The child runs cell after cell, so that models stay loaded. It writes no record: what it finds goes through a pipe to
this process, which alone decides what becomes of it. Its standard output and error go to a log.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from benchmarks.failures import Kind, kind_of, kind_of_exit
from benchmarks.parallel import Sharing
from benchmarks.records import Record
from benchmarks.suite import Cell

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from benchmarks.cell import Context
    from benchmarks.tasks.base import Report

# How often a process looks whether the other one is still there, in seconds.
LOOK_EVERY = 0.5
# Between two messages on how a stage goes on.
TELL_EVERY = 0.2
LOG_TAIL_BYTES = 4000


class Outcome(NamedTuple):
    """What came of a cell: its record, of status `ok` or `failed`, and what kind of failure it was."""

    record: Record
    kind: Kind | None


class Runner(Protocol):
    """Runs cells one after the other."""

    def run(self, cell: Cell, report: Report) -> Outcome:
        """Run a cell; whatever goes wrong in it is in the outcome."""

    def close(self) -> None:
        """Let go of what cells share."""


class Inline:
    """Runs cells in this process.

    Args:
        sharing: how this process and others share the cells.
        out: the output folder, where a training is kept while it lasts; None keeps nothing.
    """

    def __init__(self, sharing: Sharing, out: Path | None) -> None:
        self._sharing, self._out = sharing, out
        self._context: Context | None = None

    def run(self, cell: Cell, report: Report) -> Outcome:
        from benchmarks.cell import Context, identity, now, run_cell

        if self._context is None:
            self._context = Context(self._sharing, self._out)
        started = now()
        try:
            return Outcome(run_cell(cell, self._context, report), None)
        except Exception as error:
            failed = Record(
                **identity(cell, started, self._sharing),
                status="failed",
                reason=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )
            return Outcome(failed, kind_of(error, self._out))

    def close(self) -> None:
        self._context = None


class Child:
    """Runs cells in a process of their own, started with the first; one that was lost is replaced for the next cell.

    Args:
        sharing: as of Inline.
        out: as of Inline.
        log: where the child's standard output and error go.
        timeout: seconds that a cell may take; None for no limit.
        inside: makes what runs the cells in the child.
    """

    def __init__(
        self,
        sharing: Sharing,
        out: Path,
        log: Path,
        timeout: float | None,
        inside: Callable[[Sharing, Path], Runner] = Inline,
    ) -> None:
        self._sharing, self._out, self._log, self._timeout = sharing, out, log, timeout
        self._inside = inside
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, cell: Cell, report: Report) -> Outcome:
        from benchmarks.cell import identity, now

        started = now()
        pipe, process = self._begun()
        before = self._log.stat().st_size if self._log.is_file() else 0
        try:
            pipe.send(cell)
            if (outcome := self._heard(pipe, process, report)) is not None:
                return outcome
            limit = f"{self._timeout:g} s"
            reason = f"TimeLimitError: the cell ran longer than {limit}. Give more by --timeout."
            kind: Kind = "timeout"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process.join()
            reason, kind = _how_it_ended(process)
        self.close()
        known = identity(cell, started, self._sharing)
        return Outcome(Record(**known, status="failed", reason=reason, traceback=tail(self._log, before)), kind)

    def _heard(self, pipe: Connection, process: BaseProcess, report: Report) -> Outcome | None:
        """Return what the child sends of its cell; None where the time is over.

        Raises:
            EOFError: it is lost.
        """
        begun = monotonic()
        while self._timeout is None or monotonic() - begun < self._timeout:
            if pipe.poll(LOOK_EVERY):
                kind, *content = pipe.recv()
                if kind == "outcome":
                    return Outcome(Record.model_validate_json(content[0]), content[1])
                report(*content)
            elif not process.is_alive():
                raise EOFError
        return None

    def _begun(self) -> tuple[Connection, BaseProcess]:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self.close()
            context = get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._process = context.Process(
                target=_work,
                args=(theirs, self._sharing, self._out, self._log, os.getpid(), self._inside),
                daemon=True,
            )
            self._process.start()
            theirs.close()
        return self._pipe, self._process

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            # It may be in the middle of anything, and holds nothing that is to be kept.
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _how_it_ended(process: BaseProcess) -> tuple[str, Kind]:
    """Return why a child that sent no outcome is gone, and what kind of failure that is."""
    code = process.exitcode or 0
    if code < 0:
        # Real-time signals have no names.
        name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        cause = ", as the kernel does where memory runs out" if name == "SIGKILL" else ""
        return f"the process of the cell was ended by {name}{cause}.", kind_of_exit(code)
    return f"the process of the cell ended with exit code {code}.", kind_of_exit(code) if code else "bug"


def tail(log: Path, begin: int) -> str | None:
    """Return the end of what was logged from this byte on; None where it is nothing."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(begin, end - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip() or None
    except OSError:
        return None


def _work(
    pipe: Connection,
    sharing: Sharing,
    out: Path,
    log: Path,
    parent: int,
    inside: Callable[[Sharing, Path], Runner],
) -> None:
    """Run cells that come through the pipe until its other end is gone."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    # Ctrl-C reaches both; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    runner, said = inside(sharing, out), 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal said
        if done == total or monotonic() - said > TELL_EVERY:
            said = monotonic()
            pipe.send(("stage", stage, done, total))

    try:
        while True:
            record, kind = runner.run(pipe.recv(), report)
            pipe.send(("outcome", record.model_dump_json(), kind))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)


def _end_with(parent: int) -> Any:
    """End this process when its parent has ended, whatever it is in the middle of."""
    while os.getppid() == parent:
        sleep(LOOK_EVERY)
    os._exit(1)
