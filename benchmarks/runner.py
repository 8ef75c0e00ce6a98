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
from typing import TYPE_CHECKING, Any, Protocol

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


class Runner(Protocol):
    """Runs cells one after the other."""

    def run(self, cell: Cell, report: Report) -> Record:
        """Return the cell's record, of status `ok` or `failed`; whatever goes wrong in the cell is in it."""

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

    def run(self, cell: Cell, report: Report) -> Record:
        from benchmarks.cell import Context, identity, now, run_cell

        if self._context is None:
            self._context = Context(self._sharing, self._out)
        started = now()
        try:
            return run_cell(cell, self._context, report)
        except Exception as error:
            return Record(
                **identity(cell, started, self._sharing),
                status="failed",
                reason=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )

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

    def run(self, cell: Cell, report: Report) -> Record:
        from benchmarks.cell import identity, now

        started, begun = now(), monotonic()
        pipe, process = self._begun()
        before = self._log.stat().st_size if self._log.is_file() else 0
        lost = None
        try:
            pipe.send(cell)
            while lost is None:
                if pipe.poll(LOOK_EVERY):
                    kind, *content = pipe.recv()
                    if kind == "record":
                        return Record.model_validate_json(content[0])
                    report(*content)
                elif not process.is_alive() and not pipe.poll():
                    lost = _how_it_ended(process)
                elif self._timeout is not None and monotonic() - begun > self._timeout:
                    lost = f"timeout: the cell ran longer than {self._timeout:g} s. Give more by --timeout."
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process.join(10)
            lost = _how_it_ended(process)
        self.close()
        return Record(
            **identity(cell, started, self._sharing),
            status="failed",
            reason=lost,
            traceback=tail(self._log, before),
        )

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


def _how_it_ended(process: BaseProcess) -> str:
    """Return why a child that sent no record is gone."""
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        cause = ", as the kernel does where memory runs out" if name == "SIGKILL" else ""
        return f"the process of the cell was ended by {name}{cause}."
    return f"the process of the cell ended with exit code {code}."


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
            record = runner.run(pipe.recv(), report)
            pipe.send(("record", record.model_dump_json()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)


def _end_with(parent: int) -> Any:
    """End this process when its parent has ended, whatever it is in the middle of."""
    while os.getppid() == parent:
        sleep(LOOK_EVERY)
    os._exit(1)
