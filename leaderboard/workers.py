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
# Of processes that are started: one thread each, as there are as many as processors; and memory of arrays that come and
# go is kept (glibc), as getting it anew takes longer than what is computed in it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
}
# Of all that comes little is in cycles: to look for them as often as Python does took a quarter of the time.
COLLECT = (200_000, 10, 10)


class Workers:
    """Processes that work for a `with` block; one is this process alone.

    Args:
        processes: how many.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        self._collect = gc.get_threshold()
        gc.set_threshold(*COLLECT)
        if self._processes > 1:
            # A fork would copy this process with all its memory and threads; MLflow and torch may have some.
            self._pool = ProcessPoolExecutor(self._processes, get_context("spawn"), initializer=_begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        gc.set_threshold(*self._collect)

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
            with _environment():
                waiting.append(self._pool.submit(work, task))
            if len(waiting) >= AHEAD * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin() -> None:
    # Who stops the build stops the process that started it, and that one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(*COLLECT)


@contextmanager
def _environment() -> Iterator[None]:
    """Have processes that are started meanwhile find ENVIRONMENT."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
