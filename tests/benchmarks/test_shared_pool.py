import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, TCPStore

from benchmarks.failures import Policy
from benchmarks.pool import Job, Lease, Pool, Wait
from benchmarks.shared_pool import SharedPool

LEASE = 60.0
NEVER, ONCE = Policy(0), Policy(1, pause=20.0)
JOBS = [Job("short", 1.0), Job("long", 9.0), Job("again", 5.0, failed_before=True)]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def server():
    return TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))


@pytest.fixture
def store(server, request):
    """A connection of its own for each process, to the part of the store that the test has for itself."""

    def connected():
        client = TCPStore("localhost", server.port, is_master=False, timeout=timedelta(seconds=20))
        return PrefixStore(request.node.name, client)

    return connected


def pools(store, jobs, count, **options):
    """Processes, each with a clock that began at another time."""
    made = []
    for worker in range(count):
        clock = Clock()
        clock.now += 500.0 * worker
        made.append((SharedPool(store(), jobs, worker, LEASE, clock=clock, **options), clock))
    return made


def test_cells_are_dealt_longest_first_each_once(store):
    (one, _), (other, _) = pools(store, JOBS, 2)
    assert [pool.take().id for pool in (one, other, one)] == ["long", "short", "again"]
    assert isinstance(other.take(), Wait)


def test_who_has_nothing_to_take_waits_until_all_have_their_records(store):
    (one, _), (other, clock) = pools(store, [Job("only", 1.0)], 2)
    lease = one.take()
    assert other.take() == Wait(clock.now + LEASE / 3)
    assert one.finish(lease)
    assert other.take() is None
    assert one.take() is None


def test_a_cell_that_is_not_renewed_goes_to_another_after_its_lease_by_the_others_own_clock(store):
    (one, _), (other, clock) = pools(store, [Job("only", 1.0)], 2)
    lease = one.take()
    assert isinstance(other.take(), Wait)
    clock.now += LEASE - 1
    assert isinstance(other.take(), Wait)
    assert one.renew(lease)
    clock.now += LEASE - 1
    # The renewal is seen now, so the lease counts from here.
    assert isinstance(other.take(), Wait)
    clock.now += LEASE
    taken = other.take()
    assert (taken.id, taken.attempt, taken.workers) == ("only", 2, (1,))
    assert not one.renew(lease)
    assert one.fail(lease, ONCE) == "stale"
    # What the first made of it is welcome, and the second is told.
    assert one.finish(lease)
    assert not other.finish(taken)
    assert one.take() is other.take() is None


def test_a_cell_that_failed_is_tried_again_after_its_pause_and_then_for_the_last_time(store):
    (one, _), (other, clock) = pools(store, [Job("only", 1.0)], 2)
    assert one.fail(one.take(), ONCE) == "again"
    assert other.take() == Wait(clock.now + 20.0)
    clock.now += 20.0
    lease = other.take()
    assert (lease.failures, lease.attempt) == (1, 2)
    assert other.fail(lease, ONCE) == "last"
    assert other.finish(lease)


def test_a_cell_that_ends_its_workers_is_handed_out_as_hopeless(store):
    (first, _), *others = pools(store, [Job("only", 1.0)], 3, max_losses=1)
    assert not first.take().hopeless
    found = []
    for pool, clock in others:
        assert isinstance(pool.take(), Wait)
        clock.now += LEASE
        found.append(pool.take().hopeless)
    assert found == [False, True]


def test_a_process_that_was_lost_between_its_turn_and_its_mark_keeps_no_cell(store):
    (one, _), _ = pools(store, [Job("only", 1.0)], 2)
    # It came to the first position and wrote nothing.
    store().add("next", 1)
    assert one.take().id == "only"


def test_what_failed_comes_back_when_the_others_were_handed_out(store):
    ((pool, _),) = pools(store, JOBS, 1)
    assert pool.fail(pool.take(), Policy(1)) == "again"
    order = []
    while isinstance(lease := pool.take(), Lease):
        order.append((lease.id, lease.failures))
        pool.finish(lease)
    assert order == [("short", 0), ("again", 0), ("long", 1)]


@pytest.mark.parametrize("deeds", ["fail finish", "lose fail finish", "fail lose fail", "lose lose lose lose lose"])
def test_it_decides_of_a_cell_as_the_pool_in_memory_does(store, deeds):
    ((shared, clock),) = pools(store, JOBS[:1], 1)
    memory = Pool(JOBS[:1], 1, LEASE)
    for deed in [*deeds.split(), "finish"]:
        pair = shared.take(), memory.take(0, clock.now)
        while isinstance(pair[0], Wait):
            clock.now += 20.0
            pair = shared.take(), memory.take(0, clock.now)
        assert pair[0] == pair[1]
        if deed == "finish":
            assert shared.finish(pair[0]) == memory.finish(pair[1])
            break
        if deed == "fail":
            assert shared.fail(pair[0], ONCE) == memory.fail(pair[1], ONCE, clock.now)
        shared.take()
        clock.now += LEASE
    assert shared.take() is memory.take(0, clock.now) is None


def test_many_processes_of_which_some_are_lost_finish_every_cell_once(store):
    jobs = [Job(number, float(number % 7)) for number in range(120)]
    firsts, lock = [], threading.Lock()

    def work(worker):
        pool, done = SharedPool(store(), jobs, worker, lease=0.4), 0
        while (lease := pool.take()) is not None:
            if isinstance(lease, Wait):
                time.sleep(0.05)
                continue
            done += 1
            if worker < 3 and done == 5:
                return  # with the cell in its hands
            if pool.finish(lease):
                with lock:
                    firsts.append(lease.id)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(firsts) == list(range(120))
