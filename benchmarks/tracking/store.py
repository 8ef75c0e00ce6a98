"""All that is said to MLflow, and the database that it is said to where there is no server."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from benchmarks.markers import database_of, digest_of, mark, marked_run, store_uri, without_password
from benchmarks.records import BadRecordError, Record, read_record
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
MAX_REASON = 600
"""Characters of a message that are shown."""

T = TypeVar("T")


class Store:
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
            if held is None:
                # mlflow sends a request again whose answer was lost; the server may have made a run of each.
                twins = [run for run in self._runs_of(record.key) if run.data.tags.get(RECORD) == digest]
                superseded += [str(run.info.run_id) for run in twins if run.info.run_id not in (run_id, *superseded)]
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


def hold_each(store: Store, paths: Iterable[Path]) -> Iterator[Literal["logged", "already"] | Exception]:
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


def reason_of(error: Exception) -> str:
    """Return one line: of a failed request its cause, of a failed statement not its SQL, of a long text both ends.

    What to do stands at the end of mlflow's longest messages.

    >>> reason_of(OSError("GET failed (Caused by ReadTimeoutError('Pool(port=9): Read timed out.'))"))
    'Read timed out.'
    """
    line = " ".join(without_password(str(error) or type(error).__name__).partition("[SQL:")[0].split())
    if cause := re.search(r"""\(Caused by \w+\(["'](?:\w+\(.*?\): )?(.*)["']\)\)$""", line):
        line = cause[1]
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON // 2]} ... {line[-MAX_REASON // 2 :]}"


def _chunks(entities: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (entities[i : i + size] for i in range(0, len(entities), size))
