"""Keeps MLflow up to date with the records. The only file that imports mlflow.

Records are the truth; tracking makes MLflow hold each of them once. During a run a child process does it, fed with
keys through a pipe: mlflow takes seconds to import and 200 MB, which must neither slow the cells down nor count in
their `peak_memory_mb`. A marker beside the records, `<out>/<suite>/tracked/<key>`, says what is tracked and where, so
that what a kill or an absent server left out is found again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, TypeVar

from benchmarks.markers import (
    database_of,
    digest_of,
    is_tracked,
    mark,
    marked_run,
    record_files,
    store_location,
    store_uri,
    untracked,
    without_password,
)
from benchmarks.records import BadRecordError, Record, read_record, record_path
from benchmarks.runs import (
    MAX_VALUE,
    allowed_name,
    metrics_of,
    parameters_of,
    run_name,
    strategy_text,
    tags_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["SyncResult", "Tracker", "store_location", "sync", "ui_command"]

KEY, RECORD, COMPLETE = "dqss.key", "dqss.record", "dqss.complete"
RUN_STATUS = {"ok": "FINISHED", "failed": "FAILED", "skipped": "FINISHED"}
# MLflow refuses more in one call.
MAX_METRICS, MAX_PARAMETERS = 1000, 100

# Set only where the user has not: no network beyond what was asked for, and a server that is away noticed in seconds.
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
SQLITE_WAIT_SECONDS = 5
GRACE_SECONDS = 5
"""How long an interrupted run waits for its tracking to end."""
PATIENCE_SECONDS = 120
"""How long a finished run waits for a sign of progress; failures are noticed long before."""

MAX_REASON = 600
"""Characters of a message that are shown."""

FINISHED = "finished"
"""The line that ends a run well; without it the run has been killed."""

T = TypeVar("T")


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, in records.

    Args:
        logged: brought to MLflow now.
        already: were there.
        failed: are still not there.
        reason: the first failure's; None where nothing failed.
    """

    logged: int
    already: int
    failed: int
    reason: str | None


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
        self._request = json.dumps({"out": str(self._out), "suite": suite, "parameters": parameters})
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
            [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.tracking", self._request],
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


def sync(out: Path, suite: str | None, report: Callable[[str, int, int], None]) -> SyncResult:
    """Make MLflow hold every record under the output folder, whatever the markers say; once each.

    Args:
        out: the output folder.
        suite: one suite, or None for all.
        report: called with a suite's name, its records seen so far and its records in all.
    """
    out = out.resolve()
    paths = record_files(out, suite)
    counts = {"logged": 0, "already": 0}
    reason: str | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in sorted({path.parent.name for path in paths}):
                own = [path for path in paths if path.parent.name == name]
                report(name, 0, len(own))
                store = _Store(out, name, f"{name} sync", {})
                for done, outcome in enumerate(_hold_each(store, own), 1):
                    if isinstance(outcome, Exception):
                        reason = reason or _reason(outcome)
                    else:
                        counts[outcome] += 1
                    report(name, done, len(own))
                store.end("FINISHED")
    except Exception as error:
        reason = reason or _reason(error)
    return SyncResult(**counts, failed=len(paths) - sum(counts.values()), reason=reason)


def ui_command(out: Path) -> str:
    """Return the command that opens the store in a browser."""
    uri = store_uri(out)
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(store_location(out))}"
    # The password of a database stays where the user put it.
    shown = shlex.quote(uri) if uri == store_location(out) else '"$MLFLOW_TRACKING_URI"'
    mlflow = "mlflow" if shutil.which("mlflow") else f"{shlex.quote(sys.executable)} -m mlflow"
    return f"{mlflow} ui --backend-store-uri {shown}"


class _Store:
    """One suite's experiment in MLflow.

    All writing is done under a lock on the output folder. So an incomplete run that is found is one whose writer has
    been killed, and several processes may track into one folder.
    """

    def __init__(self, out: Path, suite: str, name: str, parameters: dict[str, str]) -> None:
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._out, self._suite, self._name, self._parameters = out, suite, name, parameters
        self._uri = store_uri(out)
        self._parent: str | None = None
        with _exclusive(out):
            if (database := database_of(self._uri)) is not None:
                _prepare_sqlite(database)
            self._client: MlflowClient = MlflowClient(tracking_uri=self._uri)
            self._experiment = self._open_experiment(f"dqss-bench/{suite}")

    def hold(self, path: Path) -> Literal["logged", "already"]:
        """Make MLflow hold the record of a file, and mark it.

        Raises:
            BadRecordError: not a record.
        """
        with _exclusive(self._out):
            record, digest = read_record(path), digest_of(path)
            marked = marked_run(path, self._out)
            held: str | None = None
            superseded: list[str] = []
            for run in self._runs_of(record.key):
                run_id = str(run.info.run_id)
                same = run.data.tags.get(RECORD) == digest
                if same and COMPLETE in run.data.tags and held is None:
                    held = run_id
                elif same or run_id == marked:
                    # Half of this record, or an earlier try of its cell. The runs of others on a shared server stay.
                    superseded.append(run_id)
            run_id = held or self._log(record, path.read_text(encoding="utf-8"), digest)
            for old in superseded:
                self._client.delete_run(old)
            mark(path, self._out, run_id, digest)
            return "logged" if held is None else "already"

    def answers(self) -> bool:
        """Return whether the store can still be reached."""
        try:
            self._client.get_experiment(self._experiment)
        except Exception:
            return False
        return True

    def end(self, status: Literal["FINISHED", "KILLED"]) -> None:
        """End the parent run, where there is one."""
        if self._parent is not None:
            self._client.set_terminated(self._parent, status)

    def _open_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server knows its own place for artifacts; a bare database would put them into the working directory.
            server = self._uri.startswith(("http://", "https://"))
            return self._client.create_experiment(name, None if server else (self._out / "mlartifacts").as_uri())
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _runs_of(self, key: str) -> Iterable[Run]:
        return self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'")

    def _open_parent(self) -> str:
        if self._parent is None:
            tags = {"dqss.parent": "true", "dqss.suite": self._suite}
            run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
            self._parent = str(run.info.run_id)
            self._log_parameters(self._parent, self._parameters)
        return self._parent

    def _log(self, record: Record, text: str, digest: str) -> str:
        """Write one child run; it is complete only with its last tag."""
        from mlflow.entities import Metric

        start = int(datetime.fromisoformat(record.started).timestamp() * 1000)
        seconds = (record.calibration_seconds, record.search_seconds, record.evaluation_seconds)
        tags = {**tags_of(record), RECORD: digest, "mlflow.parentRunId": self._open_parent()}
        run_id = str(self._client.create_run(self._experiment, start, tags, run_name(record)).info.run_id)
        self._log_parameters(run_id, parameters_of(record))
        metrics = [Metric(name, value, start, step) for name, value, step in metrics_of(record)]
        for some in _chunks(metrics, MAX_METRICS):
            self._client.log_batch(run_id, metrics=some, synchronous=True)
        self._client.log_text(run_id, text, "record.json")
        if record.strategy is not None:
            self._client.log_text(run_id, strategy_text(record), "strategy.json")
        end = start + int(sum(each or 0 for each in seconds) * 1000)
        self._client.set_terminated(run_id, RUN_STATUS[record.status], end)
        self._client.set_tag(run_id, COMPLETE, "true")
        return run_id

    def _log_parameters(self, run_id: str, parameters: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(allowed_name(name), value[:MAX_VALUE]) for name, value in parameters.items()]
        for some in _chunks(entities, MAX_PARAMETERS):
            self._client.log_batch(run_id, params=some, synchronous=True)


def _hold_each(store: _Store, paths: Iterable[Path]) -> Iterator[Literal["logged", "already"] | Exception]:
    """Yield what became of each record; raise what went wrong once the store is away."""
    for path in paths:
        try:
            yield store.hold(path)
        except BadRecordError as error:
            yield error
        except Exception as error:
            if not store.answers():
                raise
            yield error


def _serve(request: str) -> None:
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
            channel.write(f"{_reason(error) if error else ''}\n")

    content = json.loads(request)
    out, suite = Path(content["out"]), content["suite"]
    inbox: SimpleQueue[str | None] = SimpleQueue()
    killed = threading.Event()
    for path in untracked(out, suite):
        inbox.put(path.stem)
    threading.Thread(target=_receive, args=(inbox, killed), daemon=True).start()

    def arrivals() -> Iterator[Path]:
        while (key := inbox.get()) is not None and not killed.is_set():
            path = record_path(out, suite, key)
            if not is_tracked(path, out):
                yield path

    try:
        store = _Store(out, suite, suite, content["parameters"])
        answer(None)
        for outcome in _hold_each(store, arrivals()):
            # A bad record's cell runs again, and is tracked then.
            trouble = None if isinstance(outcome, str | BadRecordError) else outcome
            answer(trouble)
        store.end("KILLED" if killed.is_set() else "FINISHED")
    except Exception as error:
        answer(error)


def _receive(inbox: SimpleQueue[str | None], killed: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == FINISHED:
            inbox.put(None)
            return
        inbox.put(line.strip())
    killed.set()
    inbox.put(None)


def _prepare_sqlite(path: Path) -> None:
    """Make the database where there is none, whole or not at all; find out in seconds whether it can be written.

    mlflow alone would try an unwritable one for minutes, and never mend one that it was killed in the middle of making.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    fresh = not path.exists()
    if fresh:
        part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part if fresh else path, timeout=SQLITE_WAIT_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    if fresh:
        MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments(max_results=1)
        part.replace(path)


@contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """Let one process at a time in; a killed one is out."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "mlflow.lock").open("w") as file:
        if sys.platform != "win32":
            import fcntl

            # Some network file systems have no locks: then one tracker per folder is the user's care.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    """Return one line: of a failed request its cause, of a failed statement not its SQL, of a long text both ends.

    What to do stands at the end of mlflow's longest messages.

    >>> _reason(OSError("GET failed (Caused by ReadTimeoutError('Pool(port=9): Read timed out.'))"))
    'Read timed out.'
    """
    line = " ".join(without_password(str(error) or type(error).__name__).partition("[SQL:")[0].split())
    if cause := re.search(r"""\(Caused by \w+\(["'](?:\w+\(.*?\): )?(.*)["']\)\)$""", line):
        line = cause[1]
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON // 2]} ... {line[-MAX_REASON // 2 :]}"


def _chunks(entities: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (entities[i : i + size] for i in range(0, len(entities), size))


if __name__ == "__main__":
    _serve(sys.argv[1])
    # At once: the thread that reads stdin may still hold it, and there is nothing to tidy.
    os._exit(0)
