"""Ends a process whose companions are silent: it would wait for them in the middle of a training, for hours.

A process that is killed is told at once by the others' sockets; a machine that was cut off, or hangs, by nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import Self

from benchmarks.launch import GoneError
from benchmarks.shared_pool import Store

BEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""Longer than a process is ever kept from its beat while it computes."""


class Heartbeat:
    """While it is entered, this process is heard of by the others, and hears them; each process of a run enters one.

    Args:
        store: all processes see the same.
        rank: of this process.
        world: how many there are.
        on_silence: called with a message, once, where one of them has not been heard of for SILENT_SECONDS or the store
            does not answer; ends this process, and may be called in any thread.
        clock: of this process alone.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        on_silence: Callable[[str], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._rank, self._on_silence, self._clock = store, rank, on_silence, clock
        self._others = [other for other in range(world) if other != rank]
        self._heard = {other: (0, clock()) for other in self._others}
        self._ended = Event()

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._ended.wait(BEAT_SECONDS):
                self.beat()
            self._store.add(_ended(self._rank), 1)
        except GoneError as error:
            if not self._ended.is_set():
                self._on_silence(str(error))

    def beat(self) -> None:
        """Be heard once, and look whether the others were."""
        self._store.add(_beats(self._rank), 1)
        now = self._clock()
        for other in list(self._others):
            # What is added to tells what it holds.
            beats, since = self._store.add(_beats(other), 0), self._heard[other][1]
            if beats != self._heard[other][0]:
                self._heard[other] = beats, now
            elif self._store.check([_ended(other)]):
                self._others.remove(other)
            elif now - since > SILENT_SECONDS:
                self._on_silence(
                    f"process {other} has not been heard of for {SILENT_SECONDS:g} s: its machine was cut off or "
                    "hangs. Finished cells are kept; the same command goes on where this run was."
                )
                return


def end_process(message: str) -> None:
    """Say why and end this process at once, whatever its threads wait for; its launcher ends the others."""
    print(f"dqss-bench: {message}", file=sys.stderr, flush=True)
    os._exit(2)


def _beats(rank: int) -> str:
    return f"beats/{rank}"


def _ended(rank: int) -> str:
    return f"ended/{rank}"
