"""The run's side of tracking: what starts the child process, feeds it, and tells when it fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.markers import store_location, untracked
from benchmarks.records import Record

FINISHED = "finished"
"""The line that ends a run well; without it the run has been killed."""
RETRY_SECONDS = 30
"""How long the child waits before it asks again whether a store that was away is back."""
GRACE_SECONDS = 5
"""How long an interrupted run waits for its tracking to end."""
PATIENCE_SECONDS = 120
"""How long a finished run waits for a sign of progress; failures are noticed long before."""


class Tracker:
    """Tracks one suite run, beside its cells. Nothing that goes wrong here stops the run or loses a record.

    mlflow is not needed, and no run is made, as long as nothing is logged and no earlier record waits to be.

    Args:
        out: the output folder.
        warn: called once, from another thread, when tracking fails; the text says what happened and what mends it.
    """

    def __init__(self, out: Path, warn: Callable[[str], None]) -> None:
        self._out = out.resolve()
        self._warn = warn
        self._request = ""
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._progress = 0
        self._told = False

    def start(self, suite: str, parameters: dict[str, str]) -> None:
        """Begin: the parent run gets these parameters; earlier records that are not tracked are brought up to date."""
        self._request = json.dumps(
            {"out": str(self._out), "suite": suite, "parameters": parameters, "retry_seconds": RETRY_SECONDS}
        )
        if next(untracked(self._out, suite), None) is not None:
            self._spawn()

    def log(self, record: Record) -> None:
        """Track a record whose file has been written; return at once."""
        self._spawn()
        self._send(record.key)

    def close(self, wait: bool) -> None:
        """End the parent run.

        Args:
            wait: until everything is tracked; else the parent run ends as KILLED, and the rest is left to the next
                run or sync.
        """
        if self._process is None or self._listener is None or self._process.stdin is None:
            return
        if wait:
            self._send(FINISHED)
        with suppress(OSError):
            self._process.stdin.close()
        if wait:
            seen = -1
            while self._listener.is_alive() and seen != self._progress:
                seen = self._progress
                self._listener.join(PATIENCE_SECONDS)
        else:
            # What is left out now is no news: the run has been interrupted.
            self._told = True
            self._listener.join(GRACE_SECONDS)
        if self._listener.is_alive():
            self._tell(f"no answer within {PATIENCE_SECONDS} s")
            self._process.kill()
            self._listener.join()

    def _spawn(self) -> None:
        if self._process is not None:
            return
        # A session of its own: Ctrl-C is for the run, which then ends this process through `close`. Modules are found
        # where this process found them, not in the working directory.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.tracking.serve", self._request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def _send(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A closed pipe is the end of the process, which the listener reports.
            with suppress(OSError, ValueError):
                self._process.stdin.write(f"{line}\n")

    def _listen(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            with process.stdout as answers:
                for line in answers:
                    self._progress += 1
                    if reason := line.strip():
                        self._tell(reason)
        if process.wait() != 0:
            self._tell(f"its process ended with exit code {process.returncode}")

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._warn(
                f"MLflow at {store_location(self._out)} is not up to date: {reason.rstrip('.')}. "
                "The run goes on and its records are kept; "
                f"`dqss-bench sync --out {shlex.quote(str(self._out))}` brings MLflow up to date later."
            )
