"""Wall time and peak memory of a piece of work."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

INTERVAL_SECONDS = 0.02


class Meter:
    """Measures what stands in its `with` block.

    Memory is the process's resident set, sampled every 20 ms, as no operating system resets its own peak portably.

    Attributes:
        seconds: wall time.
        peak_memory_mb: the highest sample, in 10^6 bytes.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_memory_mb = 0.0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while True:
            self.peak_memory_mb = max(self.peak_memory_mb, self._process.memory_info().rss / 1e6)
            if self._done.wait(INTERVAL_SECONDS):
                return

    def __enter__(self) -> Meter:
        self._sampler.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self._done.set()
        self._sampler.join()
