"""How tracking keeps up with a run while its store comes and goes: a stand-in for the store, and no clock."""

import queue
import threading
from pathlib import Path

import pytest

from benchmarks.markers import digest_of, is_tracked, mark
from benchmarks.records import Record, key_of, record_path, write_record
from benchmarks.tracking import serve
from benchmarks.tracking.serve import Inbox, Request, keep_up
from benchmarks.tracking.tracker import FINISHED

KILLED = "killed"
"""Stands for the end of a pipe whose other side is gone."""


def a_record(number: int) -> Record:
    definition = {"number": number}
    return Record(
        key=key_of(definition),
        definition=definition,
        suite="tour",
        suite_version=1,
        task="fashion-mnist",
        model="resnet8",
        bits="W4A4",
        mode="ptq",
        protocol="all-layers",
        method="dqss",
        seed=number,
        status="failed",
        reason="as told",
        started="2030-01-02T03:04:05+00:00",
    )


class Store:
    """A store that can be away."""

    def __init__(self, out: Path):
        self.out = out
        self.is_there = True
        self.held: list[str] = []
        self.ends: list[str] = []

    def opened(self, out, suite, name, parameters):
        if not self.is_there:
            raise OSError("away")
        return self

    def answers(self):
        return self.is_there

    def hold(self, path):
        self.opened(None, None, None, None)
        self.held.append(path.stem)
        mark(path, self.out, "run", digest_of(path))
        return "logged"

    def end(self, status):
        self.ends.append(status)


class Run:
    """A run that writes records, and its tracking in a thread."""

    def __init__(self, out: Path, store: Store):
        self.out, self.store = out, store
        self.answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        request = Request(str(out), "tour", {}, retry_seconds=0.001)
        given = (request, Inbox(iter(self.lines.get, KILLED)), self.answers.put)
        self.thread = threading.Thread(target=keep_up, args=given, daemon=True)

    def write(self, number: int) -> Path:
        """Write a record and say so."""
        path = write_record(self.out, a_record(number))
        self.lines.put(f"{path.stem}\n")
        return path

    def wait_for(self, condition):
        for _ in range(30_000):
            if condition():
                return
            threading.Event().wait(0.01)
        pytest.fail("it did not happen")

    def join(self):
        self.thread.join(300)
        assert not self.thread.is_alive()


@pytest.fixture
def run(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://store")
    monkeypatch.setattr(serve, "Store", store.opened)
    return Run(tmp_path, store)


def test_what_waits_comes_first_and_then_each_record_as_it_is_written_once(run):
    earlier = write_record(run.out, a_record(0))
    run.thread.start()
    paths = [run.write(number) for number in (1, 2)]
    run.write(1)
    run.lines.put(f"{FINISHED}\n")
    run.join()
    assert sorted(run.store.held) == sorted(path.stem for path in (earlier, *paths))
    assert run.store.ends == ["FINISHED"]


def test_a_store_that_comes_back_gets_what_it_has_missed(run):
    run.thread.start()
    paths = [run.write(0)]
    run.wait_for(lambda: is_tracked(paths[0], run.out))
    run.store.is_there = False
    paths += [run.write(number) for number in (1, 2)]
    run.wait_for(lambda: not run.answers.empty() and str(run.answers.get()) == "away")
    assert len(run.store.held) == 1
    run.store.is_there = True
    run.wait_for(lambda: all(is_tracked(path, run.out) for path in paths))
    paths.append(run.write(3))
    run.lines.put(f"{FINISHED}\n")
    run.join()
    assert sorted(run.store.held) == sorted(path.stem for path in paths)
    assert run.store.ends == ["FINISHED"]


@pytest.mark.parametrize("last", [f"{FINISHED}\n", KILLED])
def test_the_end_of_the_run_does_not_wait_for_a_store_that_is_away(run, last):
    run.store.is_there = False
    run.thread.start()
    path = run.write(0)
    run.wait_for(lambda: not run.answers.empty())
    run.lines.put(last)
    run.join()
    assert (run.store.held, run.store.ends) == ([], [])
    assert not is_tracked(path, run.out)
    assert record_path(run.out, "tour", path.stem).is_file()


def test_a_run_that_was_killed_ends_as_such(run):
    run.thread.start()
    path = run.write(0)
    run.wait_for(lambda: is_tracked(path, run.out))
    run.lines.put(KILLED)
    run.join()
    assert run.store.ends == ["KILLED"]
