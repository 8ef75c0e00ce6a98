"""The child process of tracking: takes keys from its standard input and makes MLflow hold their records."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks.markers import is_tracked, untracked
from benchmarks.records import BadRecordError, record_path
from benchmarks.tracking.store import Store, hold_each, reason_of
from benchmarks.tracking.tracker import FINISHED


@dataclass(frozen=True)
class Request:
    """What a run asks of its tracking.

    Args:
        parameters: of the parent run.
        retry_seconds: how long to wait before a store that was away is tried again.
    """

    out: str
    suite: str
    parameters: dict[str, str]
    retry_seconds: float


def serve(request: Request) -> None:
    """Track the records whose keys come on stdin; write a line to stdout per step done, empty unless it went wrong."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    # Whatever libraries print must not be taken for an answer.
    os.dup2(2, 1)
    if sys.platform != "win32":
        # The cells' seconds are measured meanwhile.
        os.nice(5)

    def answer(error: Exception | None) -> None:
        # Whoever started this may be gone.
        with suppress(OSError):
            channel.write(f"{reason_of(error) if error else ''}\n")

    keep_up(request, Inbox(sys.stdin), answer)


def keep_up(request: Request, inbox: Inbox, answer: Callable[[Exception | None], None]) -> None:
    """Make MLflow hold the records that wait for it and those that come, however often it is away meanwhile.

    Args:
        answer: called after each step with what went wrong, or None.
    """
    out, suite = Path(request.out), request.suite
    store: Store | None = None
    while not inbox.killed.is_set():
        try:
            if store is None or not store.answers():
                store = Store(out, suite, suite, request.parameters)
            answer(None)
            for outcome in hold_each(store, _paths(inbox, out, suite)):
                # A bad record's cell runs again, and is tracked then.
                answer(None if isinstance(outcome, str | BadRecordError) else outcome)
            store.end("KILLED" if inbox.killed.is_set() else "FINISHED")
            return
        except Exception as error:
            answer(error)
        # What could not be sent has no marker, and is found by that when the store is back.
        if inbox.ended.wait(request.retry_seconds):
            return


class Inbox:
    """The keys that come, read by a thread of its own.

    Args:
        lines: one key on each.
        ended: no more will come.
        killed: nor will anybody wait for those that came.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.ended, self.killed = threading.Event(), threading.Event()
        self._keys: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=self._receive, daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        while not self.killed.is_set() and (key := self._keys.get()) is not None:
            yield key

    def _receive(self) -> None:
        finished = False
        for line in self._lines:
            finished = line.strip() == FINISHED
            if finished:
                break
            self._keys.put(line.strip())
        if not finished:
            self.killed.set()
        self.ended.set()
        self._keys.put(None)


def _paths(inbox: Inbox, out: Path, suite: str) -> Iterator[Path]:
    """Yield the records to be tracked: those that wait for it, then each as it comes."""
    for path in untracked(out, suite):
        if inbox.killed.is_set():
            return
        yield path
    for key in inbox:
        path = record_path(out, suite, key)
        if not is_tracked(path, out):
            yield path


if __name__ == "__main__":
    serve(Request(**json.loads(sys.argv[1])))
    # At once: the thread that reads stdin may still hold it, and there is nothing to tidy.
    os._exit(0)
