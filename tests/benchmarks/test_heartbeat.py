import threading

import pytest
from torch.distributed import HashStore

from benchmarks import heartbeat
from benchmarks.heartbeat import Heartbeat
from benchmarks.launch import GoneError, RunStore


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store():
    return RunStore(HashStore())


def test_processes_that_are_heard_go_on_and_one_that_is_not_is_named_after_a_minute(store, clock):
    told = []
    first, second, third = (Heartbeat(store, rank, 3, told.append, clock) for rank in range(3))
    for clock.now in range(0, 200, 50):
        for each in (first, second, third):
            each.beat()
    assert told == []
    for clock.now in (200, 260, 261):
        first.beat()
        second.beat()
    assert [message.partition(":")[0] for message in told] == ["process 2 has not been heard of for 60 s"] * 2


def test_one_that_was_never_heard_of_is_named_too(store, clock):
    told = []
    alone = Heartbeat(store, 0, 2, told.append, clock)
    alone.beat()
    clock.now = 61.0
    alone.beat()
    assert told[0].startswith("process 1 has not been heard of")


def test_one_that_ended_well_is_not_missed(store, clock, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    told = []
    with Heartbeat(store, 1, 2, told.append, clock):
        pass
    left = Heartbeat(store, 0, 2, told.append, clock)
    for clock.now in range(0, 1000, 100):
        left.beat()
    assert told == []


def test_a_store_that_is_gone_is_told(clock, monkeypatch):
    class Gone:
        def add(self, key, amount):
            raise GoneError("no answer")

    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    told = threading.Event()
    with Heartbeat(Gone(), 0, 2, lambda message: told.set(), clock):
        assert told.wait(10)
