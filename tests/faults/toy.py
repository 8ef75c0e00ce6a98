"""The program with toys in place of cells, so that a fault campaign needs no minutes per run.

All but the inside of a cell is the real thing: command line, suite, processes, leases, claims, records, MLflow. What
waits for long is scaled down. Imports no torch, so that a child that was killed is soon replaced.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import isnan
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import numpy

from benchmarks import claims, commands, dealing, failures, launch, runner
from benchmarks.cli import main
from benchmarks.failures import kind_of
from benchmarks.parallel import Sharing
from benchmarks.records import MetricFacts, Outcomes, Record, record_path
from benchmarks.runner import Outcome
from benchmarks.suite import Cell
from benchmarks.tracking import tracker

if TYPE_CHECKING:
    from benchmarks.tasks.base import Report

CONTROL = "DQSS_FAULTS"
"""Names the folder with the journal of the cells and with the faults that are to strike in them."""
IMAGES = 100
SHORTEST, SPREAD = 0.01, 0.29


def hits_of(key: str) -> int:
    """Return how many of a cell's images are hits: its score in percent."""
    return int(key[:8], 16) % (IMAGES + 1)


def seconds_of(key: str) -> float:
    """Return how long a cell takes."""
    return SHORTEST + SPREAD * int(key[8:12], 16) / 0xFFFF


def is_whole(path: Path) -> bool:
    """Return whether a file is a record that says `ok` and whose checksum fits, told without the program's help."""
    try:
        first, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return False
    return hashlib.sha256(body).hexdigest().encode() in first and b'\n "status": "ok",' in body


class Toy:
    """Runs cells that sleep, and whose score is a function of their key."""

    def __init__(self, sharing: Sharing, out: Path) -> None:
        self._out = out
        self._control = Path(os.environ[CONTROL])

    def run(self, cell: Cell, report: Report) -> Outcome:
        known = {
            "key": cell.key,
            "definition": cell.definition,
            "suite": cell.suite,
            "suite_version": cell.suite_version,
            "task": cell.task,
            "model": cell.model,
            "bits": cell.bits,
            "mode": cell.mode,
            "protocol": cell.protocol,
            "method": cell.method,
            "seed": cell.seed,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            return Outcome(Record(**known, **self._worked(cell)), None)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failed = Record(**known, status="failed", reason=reason, traceback=traceback.format_exc())
            return Outcome(failed, kind_of(error, self._out))

    def close(self) -> None: ...

    def _worked(self, cell: Cell) -> dict[str, object]:
        key, score = cell.key, float(hits_of(cell.key))
        self._note("begin", key, "again" if is_whole(record_path(self._out, cell.suite, key)) else "new")
        sleep(seconds_of(key) / 2)
        if self._is_to("kill", key):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_to("limit", key):
            _run_out_of_memory()
        if self._is_to("memory", key):
            raise MemoryError("a toy of more bytes than there are")
        if self._is_to("loss", key):
            raise FloatingPointError("loss: nan at step 3")
        if self._is_to("nan", key):
            score = float("nan")
        sleep(seconds_of(key) / 2)
        if not isnan(score):
            self._note("end", key, "")
        return {
            "status": "ok",
            "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
            "score": score,
            "full_precision_score": 100.0,
            "search_seconds": seconds_of(key),
            "evaluation_seconds": 0.0,
            "outcomes": Outcomes.pack(numpy.arange(IMAGES) < hits_of(key)),
            "curves": {"loss": [1.0, 0.5]},
        }

    def _is_to(self, fault: str, key: str) -> bool:
        """Return whether a fault is to strike here; it strikes once."""
        with suppress(FileNotFoundError):
            (self._control / f"{fault}-{key}").unlink()
            return True
        return False

    def _note(self, what: str, key: str, detail: str) -> None:
        line = f"{what} {key} {os.getpid()} {monotonic():.6f} {detail}\n".encode()
        with (self._control / "journal").open("ab", buffering=0) as journal:
            journal.write(line)


def _run_out_of_memory() -> None:
    """Ask for more memory than the system gives this process, until it refuses."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, before[1]))
    held = []
    try:
        while True:
            held.append(bytearray(16 * 2**20))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


def scale_down() -> None:
    """Make all that waits wait less long."""
    dealing.LEASE_SECONDS, dealing.ASK_SECONDS = 8.0, 0.3
    claims.RENEW_SECONDS, claims.STALE_SECONDS = 2.0, 20.0
    tracker.RETRY_SECONDS = 1
    runner.LOOK_EVERY = 0.1
    dealing.POLICIES = {
        kind: replace(policy, pause=policy.pause / 30, growth=1.5) for kind, policy in failures.POLICIES.items()
    }


if __name__ == "__main__":
    scale_down()
    runner.Child = partial(runner.Child, inside=Toy)  # type: ignore[assignment,misc]
    launch.PROGRAM = (sys.executable, "-m", "tests.faults.toy")
    # The board is made of what is checked here, and has its own tests.
    commands._build_site = lambda results, site: site
    sys.exit(main())
