from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks import tracking
from benchmarks.markers import untracked
from benchmarks.records import LayerChoice, MetricFacts, Record, key_of, record_path, write_record
from benchmarks.tracking import SyncResult, Tracker, store_location, sync, ui_command

CURVE = [1 / (step + 1) for step in range(1500)]


def a_record(method: str = "dqss", suite: str = "tour", **changes: Any) -> Record:
    definition = {"method": method, "protocol": {"first_last_bits": None}, "options": {"steps": 200}}
    ok: dict[str, Any] = {
        "status": "ok",
        "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
        "score": 90.5,
        "full_precision_score": 92.25,
        "forward_passes": 4096,
        "search_seconds": 2.5,
        "strategy": {"conv1": LayerChoice(weight="mse", activation="kl", bits="W4A4")},
        "curves": {"loss": [0.5, 0.25]},
        "started": "2030-01-02T03:04:05+00:00",
    }
    return Record(
        key=key_of(definition),
        definition=definition,
        suite=suite,
        suite_version=1,
        task="fashion-mnist",
        model="resnet8",
        bits="W4A4",
        mode="ptq",
        protocol="all-layers",
        method=method,
        seed=0,
        **(ok | changes),
    )


def ignore(stage: str, done: int, total: int) -> None:
    pass


def children(out: Path, suite: str = "tour") -> list[Run]:
    """Return the runs of cells that are not deleted, in the store under the output folder."""
    return _runs(out, suite, "tags.`dqss.key` != ''")


def parents(out: Path, suite: str = "tour") -> list[Run]:
    return _runs(out, suite, "tags.`dqss.parent` = 'true'")


def _runs(out: Path, suite: str, condition: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"dqss-bench/{suite}")
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id], condition))


def artifact(run: Run, name: str, folder: Path) -> bytes:
    client = MlflowClient(
        str(run.info.artifact_uri).split("/mlartifacts")[0].replace("file://", "sqlite:///") + "/mlflow.db"
    )
    return Path(client.download_artifacts(run.info.run_id, name, str(folder))).read_bytes()


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database as mlflow makes it, which takes seconds; it holds another suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("store")
        write_record(folder, a_record(suite="first"))
        assert sync(folder, None, ignore).logged == 1
    return folder / "mlflow.db"


@pytest.fixture
def out(tmp_path: Path, empty_store: Path) -> Path:
    folder = tmp_path / "my results"
    folder.mkdir()
    shutil.copy(empty_store, folder)
    return folder


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Give the URI of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def absent_server() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_synced_record_can_be_read_back_from_mlflow(out: Path, tmp_path: Path) -> None:
    record = a_record(curves={"loss": CURVE})
    path = write_record(out, record)
    assert sync(out, None, ignore) == SyncResult(logged=1, already=0, failed=0, reason=None)

    (run,) = children(out)
    assert run.info.run_name == "resnet8 W4A4 dqss seed 0"
    assert run.info.status == "FINISHED"
    assert artifact(run, "record.json", tmp_path) == path.read_bytes()
    assert json.loads(artifact(run, "strategy.json", tmp_path))["layers"]["conv1"]["weight"] == "mse"
    assert run.data.params.items() >= {"model": "resnet8", "options.steps": "200", "seed": "0"}.items()
    assert run.data.metrics["score"] == 90.5
    assert run.data.metrics["gap_to_full_precision"] == -1.75
    assert run.data.metrics["forward_passes"] == 4096
    assert "bops" not in run.data.metrics
    assert run.data.tags.items() >= {"dqss.key": record.key, "dqss.suite": "tour", "dqss.status": "ok"}.items()
    history = MlflowClient(store_location(out)).get_metric_history(run.info.run_id, "curve/loss")
    assert [point.value for point in sorted(history, key=lambda point: point.step)] == CURVE
    assert sorted(point.step for point in history) == list(range(len(CURVE)))
    assert Path(str(run.info.artifact_uri).removeprefix("file://").replace("%20", " ")).is_relative_to(
        out / "mlartifacts"
    )


def test_a_second_sync_logs_nothing(out: Path) -> None:
    for method in ("dqss", "random"):
        write_record(out, a_record(method))
    sync(out, None, ignore)
    assert sync(out, "tour", ignore) == SyncResult(logged=0, already=2, failed=0, reason=None)
    assert len(children(out)) == 2
    assert len(parents(out)) == 1


def test_sync_reports_its_progress_per_suite(out: Path) -> None:
    for method in ("dqss", "random"):
        write_record(out, a_record(method))
    write_record(out, a_record(suite="other"))
    seen: list[tuple[str, int, int]] = []
    sync(out, None, lambda stage, done, total: seen.append((stage, done, total)))
    assert seen == [("other", 0, 1), ("other", 1, 1), ("tour", 0, 2), ("tour", 1, 2), ("tour", 2, 2)]


def test_failed_and_skipped_cells_are_tracked_with_their_reason(out: Path) -> None:
    nothing: dict[str, Any] = {"score": None, "strategy": None, "curves": {}}
    write_record(out, a_record("dqss", status="failed", reason="out of memory", **nothing))
    write_record(out, a_record("random", status="skipped", reason="no data", **nothing))
    sync(out, None, ignore)
    runs = {run.data.tags["dqss.status"]: run for run in children(out)}
    assert runs["failed"].info.status == "FAILED"
    assert runs["failed"].data.tags["dqss.reason"] == "out of memory"
    assert runs["skipped"].data.tags["dqss.reason"] == "no data"


def test_a_run_is_tracked_beside_its_cells(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, record = a_record("random"), a_record()
    write_record(out, earlier)
    warnings: list[str] = []
    tracker = Tracker(out, warnings.append)
    tracker.start("tour", {"seeds": "0"})
    write_record(out, record)
    tracker.log(record)
    tracker.close(wait=True)

    assert warnings == []
    (parent,) = parents(out)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"seeds": "0"}
    assert {run.data.tags["dqss.key"] for run in children(out)} == {earlier.key, record.key}
    assert {run.data.tags["mlflow.parentRunId"] for run in children(out)} == {parent.info.run_id}

    # A second run finds everything done, and needs no process for it.
    monkeypatch.setattr(subprocess, "Popen", None)
    again = Tracker(out, warnings.append)
    again.start("tour", {})
    again.close(wait=True)


def test_an_interrupted_run_ends_as_killed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.tracker, "GRACE_SECONDS", 60)
    record = a_record()
    write_record(out, record)
    tracker = Tracker(out, pytest.fail)
    tracker.start("tour", {})
    for _ in range(600):
        if not list(untracked(out, "tour")):
            break
        threading.Event().wait(0.1)
    tracker.close(wait=False)
    assert [run.info.status for run in parents(out)] == ["KILLED"]
    assert [run.info.status for run in children(out)] == ["FINISHED"]


def test_an_interrupted_run_leaves_the_rest_to_sync(out: Path) -> None:
    for i in range(20):
        write_record(out, a_record(f"method-{i}"))
    tracker = Tracker(out, pytest.fail)
    tracker.start("tour", {})
    tracker.close(wait=False)
    assert len(children(out)) < 20

    sync(out, None, ignore)
    assert sorted(run.data.tags["dqss.method"] for run in children(out)) == sorted(f"method-{i}" for i in range(20))


def test_a_kill_between_log_and_marker_makes_no_double(out: Path) -> None:
    record = a_record()
    path = write_record(out, record)
    sync(out, None, ignore)
    marker = path.parent / "tracked" / record.key
    before = marker.read_text()
    marker.unlink()
    assert sync(out, None, ignore) == SyncResult(logged=0, already=1, failed=0, reason=None)
    assert len(children(out)) == 1
    assert marker.read_text() == before


@pytest.mark.parametrize("stage", ["log_batch", "log_text", "set_terminated", "set_tag"])
def test_a_kill_in_the_middle_of_a_log_makes_no_double(out: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_record(out, a_record())

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, stage, die)
        with pytest.raises(KeyboardInterrupt):
            sync(out, None, ignore)
    assert not (path.parent / "tracked").exists()

    assert sync(out, None, ignore).logged == 1
    (run,) = children(out)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["score"] == 90.5


def test_a_request_that_was_sent_twice_makes_no_double(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mlflow does so where no answer came; the server then has a run that nobody knows of."""
    create = MlflowClient.create_run

    def twice(*given: Any, **named: Any) -> Run:
        create(*given, **named)
        return create(*given, **named)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    path = write_record(out, a_record())
    assert sync(out, None, ignore).logged == 1
    (run,) = children(out)
    assert run.data.metrics["score"] == 90.5
    assert json.loads((path.parent / "tracked" / path.stem).read_text())["run_id"] == run.info.run_id


def test_a_cell_that_ran_again_replaces_its_failed_run(out: Path) -> None:
    write_record(out, a_record(status="failed", reason="out of memory", score=None))
    sync(out, None, ignore)
    record = a_record()
    write_record(out, record)
    tracker = Tracker(out, pytest.fail)
    tracker.start("tour", {})
    tracker.log(record)
    tracker.close(wait=True)
    (run,) = children(out)
    assert run.data.tags["dqss.status"] == "ok"


def test_the_same_cell_of_another_folder_keeps_its_run(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlflow.db'}")
    write_record(out, a_record())
    write_record(tmp_path / "theirs", a_record(search_seconds=3.5))
    sync(out, None, ignore)
    assert sync(tmp_path / "theirs", None, ignore).logged == 1
    assert sorted(run.data.metrics["search_seconds"] for run in children(out)) == [2.5, 3.5]


def test_a_marker_of_another_store_does_not_count(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(out, a_record())
    sync(out, None, ignore)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(out / "mlflow.db", tmp_path / "elsewhere" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}")
    assert list(untracked(out, "tour")) == [record_path(out, "tour", a_record().key)]


def test_a_deleted_database_is_made_again(out: Path) -> None:
    write_record(out, a_record())
    sync(out, None, ignore)
    (out / "mlflow.db").unlink()
    assert len(list(untracked(out, "tour"))) == 1


def test_an_absent_server_is_told_once_and_mended_by_sync(
    out: Path, absent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [a_record("dqss"), a_record("random")]
    warnings: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", absent_server)
        tracker = Tracker(out, warnings.append)
        tracker.start("tour", {})
        for record in records:
            write_record(out, record)
            tracker.log(record)
        tracker.close(wait=True)
        assert sync(out, None, ignore).failed == 2
    (warning,) = warnings
    assert absent_server in warning
    assert "Connection refused" in warning
    assert "dqss-bench sync" in warning
    assert sync(out, None, ignore) == SyncResult(logged=2, already=0, failed=0, reason=None)


def test_a_server_that_never_answers_holds_nobody_up(
    out: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record = a_record()
    write_record(out, record)
    warnings: list[str] = []
    tracker = Tracker(out, warnings.append)
    tracker.start("tour", {})
    tracker.log(record)
    tracker.close(wait=True)
    assert len(warnings) == 1
    assert "timed out" in warnings[0]


def test_a_process_that_gives_no_sign_is_ended(out: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    monkeypatch.setattr(tracking.tracker, "PATIENCE_SECONDS", 0.1)
    warnings: list[str] = []
    tracker = Tracker(out, warnings.append)
    write_record(out, a_record())
    tracker.start("tour", {})
    tracker.close(wait=True)
    assert len(warnings) == 1
    assert "no answer" in warnings[0]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense://store", "nonsense://store"),
        ("./mlruns", "filesystem tracking backend"),
        ("./mlruns", "set `MLFLOW_ALLOW_FILE_STORE=true`"),
        ("sqlite:///{out}/tour/mlflow.db", "unable to open database file"),
    ],
)
def test_a_store_that_cannot_be_is_a_reason_not_a_traceback(
    out: Path, uri: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(out, a_record())
    (out / "tour" / "mlflow.db").mkdir()
    monkeypatch.chdir(out)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(out=out))
    result = sync(out, None, ignore)
    assert (result.logged, result.already, result.failed) == (0, 0, 1)
    assert said in (result.reason or "")
    assert not (out / "mlruns").exists()


def test_a_locked_database_is_a_reason_not_a_traceback(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.store, "SQLITE_WAIT_SECONDS", 0.1)
    write_record(out, a_record())
    with closing(sqlite3.connect(out / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert sync(out, None, ignore) == SyncResult(0, 0, 1, "database is locked")
    assert sync(out, None, ignore).logged == 1


def test_one_record_that_cannot_be_logged_does_not_hold_up_the_others(out: Path) -> None:
    for method in ("dqss", "random"):
        write_record(out, a_record(method))
    write_record(out, a_record("odd", started="yesterday"))
    bad = record_path(out, "tour", "0" * 64)
    bad.write_text("{")
    result = sync(out, None, ignore)
    assert (result.logged, result.failed) == (2, 2)
    assert str(bad) in (result.reason or "")


def test_runs_of_two_suites_may_make_one_fresh_store_together(tmp_path: Path) -> None:
    trackers = []
    for suite in ("tour", "other"):
        record = a_record(suite=suite)
        write_record(tmp_path, record)
        tracker = Tracker(tmp_path, pytest.fail)
        tracker.start(suite, {})
        trackers.append(tracker)
    for tracker in trackers:
        tracker.close(wait=True)
    assert len(children(tmp_path, "tour")) == len(children(tmp_path, "other")) == 1


def test_log_returns_while_mlflow_is_still_busy(out: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    tracker = Tracker(out, lambda text: None)
    tracker.start("tour", {})
    record = a_record()

    def log_often() -> None:
        for _ in range(2000):
            tracker.log(record)

    logging = threading.Thread(target=log_often, daemon=True)
    logging.start()
    logging.join(30)
    assert not logging.is_alive()
    tracker.close(wait=False)


def test_places_are_named_without_passwords(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_location(out) == f"sqlite:///{out}/mlflow.db"
    assert ui_command(out).endswith(f"ui --backend-store-uri 'sqlite:///{out}/mlflow.db'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/runs")
    assert store_location(out) == "postgresql://me:***@host/runs"
    assert ui_command(out).endswith('ui --backend-store-uri "$MLFLOW_TRACKING_URI"')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    assert "secret" not in ui_command(out)


class Server:
    """A real MLflow server on this machine, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *place],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
        )
        for _ in range(6000):
            with suppress(OSError), urlopen(f"{self.uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            threading.Event().wait(0.1)
        pytest.fail("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def keys(self) -> list[str]:
        """Return the keys of the runs that are whole, one per run."""
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("dqss-bench/tour")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "tags.`dqss.complete` = 'true'")
        return sorted(run.data.tags["dqss.key"] for run in runs)


@pytest.fixture
def server(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.folder.mkdir()
    shutil.copy(out / "mlflow.db", made.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.1)
    pytest.fail("it did not happen within five minutes")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGKILL are POSIX")
def test_a_server_that_is_killed_and_comes_back_in_one_run_gets_every_record_once(
    out: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.tracker, "RETRY_SECONDS", 1)
    records = [a_record(f"method-{i}") for i in range(6)]
    warnings: list[str] = []
    tracker = Tracker(out, warnings.append)
    tracker.start("tour", {})

    def log(some: list[Record]) -> None:
        for record in some:
            write_record(out, record)
            tracker.log(record)

    log(records[:2])
    wait_until(lambda: not list(untracked(out, "tour")))
    server.kill()
    log(records[2:4])
    wait_until(lambda: bool(warnings))
    assert len(list(untracked(out, "tour"))) == 2
    server.start()
    log(records[4:])
    wait_until(lambda: not list(untracked(out, "tour")))
    tracker.close(wait=True)
    assert len(warnings) == 1
    assert server.keys() == sorted(record.key for record in records)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGKILL are POSIX")
def test_a_server_that_is_killed_in_the_middle_and_stays_away_costs_no_record(out: Path, server: Server) -> None:
    records = [a_record(f"method-{i}") for i in range(12)]
    warnings: list[str] = []
    tracker = Tracker(out, warnings.append)
    tracker.start("tour", {})
    for record in records:
        write_record(out, record)
        tracker.log(record)
    wait_until(lambda: len(list(untracked(out, "tour"))) < 12)
    server.kill()
    tracker.close(wait=True)
    (warning,) = warnings
    assert "dqss-bench sync" in warning
    left = len(list(untracked(out, "tour")))
    assert 0 < left < 12
    server.start()
    assert sync(out, None, ignore).failed == 0
    assert server.keys() == sorted(record.key for record in records)
    assert list(untracked(out, "tour")) == []
