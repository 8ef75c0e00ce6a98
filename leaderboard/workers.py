"""Work over several processes whose results come in order, so that what is made of them is the same for any number."""

from __future__ import annotations

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that are given out before the first of them is taken back, for each process.
AHEAD = 4
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Workers:
    """Processes that work for a `with` block; one is this process alone.

    Args:
        processes: how many.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._processes > 1:
            # A fork would copy this process with all its memory and threads; MLflow and torch may have some.
            self._pool = ProcessPoolExecutor(self._processes, get_context("spawn"), initializer=_begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the result of each task, in their order; those done ahead are few.

        Args:
            work: a function of a module, as other processes have to find it.
            tasks: pickled to them; taken when there is something to do.
        """
        if self._pool is None:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            with _one_thread_each():
                waiting.append(self._pool.submit(work, task))
            if len(waiting) >= AHEAD * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin() -> None:
    # Who stops the build stops the process that started it, and that one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is there stays, and of what comes little is in cycles: to look for them took a quarter of the time.
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have processes that are started meanwhile compute in one thread each: there are as many as processors."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
