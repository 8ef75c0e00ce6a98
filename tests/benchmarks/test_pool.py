import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks.failures import Policy
from benchmarks.pool import (
    FRESH,
    Job,
    Lease,
    Pool,
    Wait,
    ended,
    is_held,
    may_take,
    ordered,
    renewed,
    taken,
)

LEASE = 60.0
NEVER = Policy(0)


def pool(*jobs, world=2, **options) -> Pool[str]:
    return Pool([job if isinstance(job, Job) else Job(job) for job in jobs], world, LEASE, **options)


def test_the_widest_come_first_then_the_unknown_then_the_longest_and_all_that_failed_last():
    jobs = [
        Job("a", 3.0),
        Job("b", 7.0),
        Job("c"),
        Job("d", 9.0, failed_before=True),
        Job("e", 1.0, width=2),
        Job("f", 7.0),
        Job("g", width=3, failed_before=True),
        Job("h", 5.0, width=2),
    ]
    assert [job.id for job in ordered(jobs)] == ["h", "e", "c", "b", "f", "a", "g", "d"]


def test_a_state_holds_for_as_long_as_it_says_from_when_it_was_first_seen():
    held = taken(FRESH, (0,), LEASE)
    assert may_take(FRESH, -math.inf, 0.0)
    assert not may_take(held, 1000.0, 1059.9)
    assert may_take(held, 1000.0, 1060.0)
    assert not may_take(ended(held), 1000.0, 5000.0)


def test_each_cell_is_handed_out_once_and_then_workers_may_leave():
    cells = pool(Job("short", 1.0), Job("long", 2.0))
    long, short = cells.take(0, 0.0), cells.take(1, 0.0)
    assert (long.id, short.id) == ("long", "short")
    assert cells.finish(short)
    assert cells.take(1, 1.0) == Wait(21.0)  # a third of a lease: so that it is known to be there
    assert cells.unfinished() == ["long"]
    assert cells.finish(long)
    assert cells.take(1, 2.0) is None
    assert cells.left == 0


def test_a_cell_comes_back_where_its_lease_is_over_and_not_before():
    cells = pool("a")
    first = cells.take(0, 0.0)
    assert cells.renew(first, 50.0)
    assert cells.take(1, 109.5) == Wait(110.0)
    second = cells.take(1, 110.0)
    assert (second.id, second.attempt, second.workers) == ("a", 2, (1,))
    assert not cells.renew(first, 111.0)
    assert cells.renew(second, 111.0)


def test_the_first_to_finish_is_welcome_after_its_lease_and_the_second_is_told():
    cells = pool("a")
    late = cells.take(0, 0.0)
    second = cells.take(1, 60.0)
    assert cells.finish(late)
    assert not cells.renew(second, 70.0)
    assert cells.fail(second, Policy(5), 70.0) == "stale"
    assert not cells.finish(second)
    assert not cells.finish(late)
    assert cells.take(1, 71.0) is None


def test_a_worker_that_slept_past_its_lease_goes_on_where_nobody_took_its_cell():
    cells = pool("a", "b")
    slept = cells.take(0, 0.0)
    assert cells.take(1, 100.0).id == "a"  # it came first after the lease
    assert not cells.renew(slept, 101.0)
    cells = pool("a", "b")
    slept = cells.take(1, 0.0)
    other = cells.take(0, 0.0)
    assert cells.renew(other, 55.0)
    assert cells.renew(slept, 100.0)
    assert cells.take(2, 100.0) == Wait(115.0)
    assert cells.take(2, 115.0).id == "b"
    assert cells.take(3, 159.0) == Wait(160.0)
    assert cells.take(3, 160.0).id == "a"


def test_a_worker_that_asks_while_it_holds_a_cell_has_lost_it():
    cells = pool("a")
    assert cells.take(0, 0.0).attempt == 1
    again = cells.take(0, 1.0)
    assert (again.id, again.attempt) == ("a", 2)
    assert cells.state("a").losses == 1


def test_a_cell_that_loses_its_workers_is_handed_out_as_hopeless_until_it_has_its_record():
    cells = pool("a", max_losses=2)
    assert [cells.take(0, LEASE * time).hopeless for time in range(5)] == [False, False, False, True, True]
    assert cells.finish(cells.take(1, LEASE * 5))
    assert cells.take(1, LEASE * 5) is None


def test_a_failed_cell_waits_longer_each_time_and_its_last_failure_leaves_it_to_be_recorded():
    cells, policy = pool("a"), Policy(2, pause=10.0, growth=3.0)
    assert cells.fail(cells.take(0, 0.0), policy, 5.0) == "again"
    assert cells.take(0, 6.0) == Wait(15.0)
    second = cells.take(0, 15.0)
    assert second.failures == 1
    assert cells.fail(second, policy, 20.0) == "again"
    assert cells.take(0, 49.0) == Wait(50.0)
    third = cells.take(0, 50.0)
    assert cells.fail(third, policy, 51.0) == "last"
    # Until the record is written, it is not lost with the worker.
    assert cells.take(1, 95.0) == Wait(110.0)
    assert cells.finish(third)
    assert cells.take(1, 96.0) is None
    assert cells.state("a").losses == 0


def test_failures_of_many_kinds_are_counted_together():
    cells = pool("a")
    assert cells.fail(cells.take(0, 0.0), Policy(3), 0.0) == "again"
    assert cells.fail(cells.take(0, 0.0), Policy(1), 0.0) == "last"


def test_a_failure_that_is_told_after_another_took_the_cell_changes_nothing():
    cells = pool("a")
    late = cells.take(0, 0.0)
    second = cells.take(1, 60.0)
    assert cells.fail(late, Policy(5), 61.0) == "stale"
    assert cells.renew(second, 62.0)


def test_free_workers_wait_for_a_wide_cell_and_narrow_ones_do_not_pass_it():
    cells = pool(Job("narrow", 99.0), Job("wide", 1.0, width=3), world=3)
    assert cells.take(0, 0.0) == Wait(20.0)
    assert cells.take(1, 5.0) == Wait(25.0)
    assert cells.take(0, 20.0) == Wait(40.0)
    wide = cells.take(2, 21.0)
    assert wide.id == "wide"
    assert wide.workers[0] == 2
    assert sorted(wide.workers) == [0, 1, 2]
    assert cells.take(0, 22.0) == wide == cells.take(1, 23.0)
    assert cells.finish(wide)
    assert cells.take(1, 24.0).id == "narrow"


def test_a_worker_that_waits_without_a_word_for_the_time_of_a_lease_is_in_no_team():
    cells = pool(Job("wide", width=2), world=3)
    cells.take(0, 0.0)
    assert isinstance(cells.take(1, 60.0), Wait)
    assert cells.take(2, 61.0).workers == (2, 1)


def test_one_member_of_a_team_that_comes_back_without_its_cell_ends_the_lease_of_all():
    cells = pool(Job("wide", width=2))
    cells.take(0, 0.0)
    first = cells.take(1, 0.0)
    assert cells.take(0, 1.0) == first
    assert isinstance(cells.take(0, 2.0), Wait)  # it waits for the wide cell anew
    assert not cells.renew(first, 3.0)
    second = cells.take(1, 3.0)
    assert (second.workers, second.attempt) == ((1, 0), 2)


def test_two_wide_cells_do_not_lock_each_other_out():
    cells = pool(Job("a", 2.0, width=2), Job("b", 1.0, width=2), world=3)
    assert isinstance(cells.take(0, 0.0), Wait)
    first = cells.take(1, 0.0)
    assert isinstance(cells.take(2, 0.0), Wait)
    assert cells.take(0, 0.0) == first
    assert cells.finish(first)
    second = cells.take(0, 9.0)
    assert (second.id, second.workers) == ("b", (0, 2))


def test_a_wide_cell_steps_aside_where_workers_are_gone_and_comes_back_with_them():
    cells = pool(Job("wide", width=2), "a", "b", "c")
    for time in (0.0, 20.0, 40.0):
        assert cells.take(0, time) == Wait(time + 20.0)
    narrow = cells.take(0, 60.0)  # for the time of a lease nobody else was heard of
    assert narrow.id == "a"
    assert cells.take(1, 61.0) == Wait(80.0 + 1.0)  # there are two again
    cells.finish(narrow)
    assert cells.take(0, 62.0).workers == (0, 1)


def test_workers_may_leave_where_only_cells_are_left_that_are_too_wide_for_them():
    cells = pool(Job("wide", width=2), "a")
    for time in (0.0, 20.0, 40.0):
        cells.take(0, time)
    cells.finish(cells.take(0, 60.0))
    for time in range(61, 241, 20):
        assert cells.take(0, time) == Wait(time + 20.0)
    assert cells.take(0, 241.0) is None
    assert cells.unfinished() == ["wide"]


def test_a_wide_cell_that_was_set_aside_and_finished_late_keeps_nobody_from_waiting_for_the_others():
    cells = pool(Job("wide", width=3), "a", world=3)
    late = [cells.take(worker, 0.0) for worker in range(3)][-1]
    for time in (100.0, 120.0, 140.0):
        assert cells.take(1, time) == Wait(time + 20.0)
    narrow = cells.take(1, 160.0)
    assert cells.finish(late)
    for time in range(161, 500, 20):
        assert cells.renew(narrow, time)
        assert isinstance(cells.take(0, time), Wait)
    assert cells.finish(narrow)
    assert cells.take(0, 500.0) is None


def test_after_a_sleep_of_the_whole_run_none_leaves_before_the_others_can_wake():
    cells = pool(Job("wide", width=2))
    cells.take(0, 0.0)
    first = cells.take(1, 0.0)
    assert isinstance(cells.take(0, 5000.0), Wait)
    assert cells.take(1, 5001.0).attempt == first.attempt + 1


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([Job("w", width=3)], "jobs: 'w' needs 3 processes, and 1 to 2 are allowed"),
        ([Job("w", width=0)], "jobs: 'w' needs 0 processes, and 1 to 2 are allowed"),
        ([Job("a"), Job("b"), Job("a")], "jobs: 'a' is there 2 times"),
        ([Job("a", -1.0)], r"jobs: 'a' has -1\.0 seconds"),
        ([Job("a", math.nan)], "jobs: 'a' has nan seconds"),
    ],
)
def test_cells_that_cannot_be_are_refused_by_name(jobs, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        pool(*jobs)


def test_an_empty_pool_sends_everyone_home():
    assert pool().take(0, 0.0) is None


POLICIES = [Policy(0), Policy(2), Policy(1, pause=30.0), Policy(4, pause=7.0)]


class PoolMachine(RuleBasedStateMachine):
    """Workers that do anything at any time, beside a plain account of who may hold what."""

    WORLD = 4

    def __init__(self):
        super().__init__()
        self.generator = random.Random(0)
        widths = [1, 1, 2, 1, 4, 1, 3, 1]
        self.jobs = [Job(cell, float(cell % 3) or None, width, cell == 5) for cell, width in enumerate(widths)]
        self.pool = Pool(self.jobs, self.WORLD, LEASE, max_losses=2)
        self.now = 0.0
        self.leases: list[Lease[int]] = []
        self.good_until: dict[int, tuple[Lease[int], float]] = {}
        self.not_before: dict[int, float] = {}
        self.done: set[int] = set()
        self.counts = dict.fromkeys(range(len(widths)), 0)

    def give_up(self, worker):
        """What the worker held, it has no more."""
        for cell, (lease, _) in list(self.good_until.items()):
            if worker in lease.workers:
                del self.good_until[cell]

    @rule(worker=st.integers(0, WORLD - 1))
    def take(self, worker):
        answer = self.pool.take(worker, self.now)
        if isinstance(answer, Lease):
            cell = answer.id
            assert cell not in self.done
            assert worker in answer.workers
            assert len(set(answer.workers)) == len(answer.workers) == self.jobs[cell].width
            known = self.good_until.get(cell)
            if known is not None and known[0] == answer:
                return  # the others of a team hear of it
            self.give_up(worker)
            assert cell not in self.good_until or self.good_until[cell][1] <= self.now
            assert self.not_before.get(cell, 0.0) <= self.now
            for member in answer.workers:
                assert all(
                    member not in lease.workers or until <= self.now for lease, until in self.good_until.values()
                )
            self.good_until[cell] = (answer, self.now + LEASE)
            self.leases.append(answer)
            self.counts[cell] += 1
            assert answer.attempt == self.counts[cell]
        else:
            self.give_up(worker)
            if isinstance(answer, Wait):
                assert answer.until > self.now
                assert len(self.done) < len(self.jobs)
            elif len(self.done) < len(self.jobs):
                # It may leave: nothing is running, and all that is left is wide.
                assert all(until <= self.now for _, until in self.good_until.values())
                assert all(self.jobs[cell].width > 1 for cell in self.counts if cell not in self.done)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 19.9, 20.0, 59.9, 60.0, 200.0]))
    def time_goes_on(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data):
        lease = data.draw(st.sampled_from(self.leases))
        is_good = lease.id in self.good_until and self.good_until[lease.id][0] == lease
        still = self.pool.renew(lease, self.now)
        if is_good and self.good_until[lease.id][1] > self.now:
            assert still
        if still:
            assert lease.id not in self.done
            assert lease.attempt == self.counts[lease.id]
            self.good_until[lease.id] = (lease, self.now + LEASE)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data):
        lease = data.draw(st.sampled_from(self.leases))
        assert self.pool.finish(lease) == (lease.id not in self.done)
        self.done.add(lease.id)
        self.good_until.pop(lease.id, None)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), policy=st.sampled_from(POLICIES))
    def fail(self, data, policy):
        lease = data.draw(st.sampled_from(self.leases))
        before = self.pool.state(lease.id)
        verdict = self.pool.fail(lease, policy, self.now)
        if lease.id in self.done or lease.attempt != self.counts[lease.id]:
            assert verdict == "stale"
        if verdict == "again":
            assert before.failures < policy.retries
            self.good_until.pop(lease.id, None)
            self.not_before[lease.id] = self.now + policy.pause * policy.growth**before.failures
        if verdict == "last":
            assert before.failures >= policy.retries
            assert self.pool.state(lease.id) == before

    @invariant()
    def the_account_agrees(self):
        assert self.pool.left == len(self.jobs) - len(self.done)
        assert set(self.pool.unfinished()) == set(self.counts) - self.done

    def teardown(self):
        """From wherever things stand, workers that do their work end every cell."""
        self.now += 1000.0
        for _ in range(40 * len(self.jobs)):
            for worker in range(self.WORLD):
                self.now += 1.0
                answer = self.pool.take(worker, self.now)
                if isinstance(answer, Lease) and answer.workers[0] == worker:
                    assert self.pool.finish(answer)
                    assert answer.id not in self.done
                    self.done.add(answer.id)
            if self.pool.left == 0:
                break
        assert self.done == set(self.counts)
        assert self.pool.take(0, self.now) is None


PoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None, print_blob=False)
TestPool = PoolMachine.TestCase


class SharedStates:
    """A store of states that processes share: what is not as it was read is not replaced."""

    def __init__(self, count):
        self.states = [FRESH] * count

    def replace(self, position, read, new):
        if self.states[position] is not read:
            return False
        self.states[position] = new
        return True


class Process:
    """A process that decides for itself by the functions on states, and by a clock that nobody else has."""

    def __init__(self, shared, rank, clock, costs):
        self.shared, self.rank, self.clock, self.costs = shared, rank, clock, costs
        self.seen = {}
        self.mine = None
        self.until = 0.0

    def step(self, time, generator):
        """Do one thing; return the cell whose record this is the first to bring."""
        now = time + self.clock
        if self.mine is not None:
            position, attempt = self.mine
            state = self.shared.states[position]
            if now >= self.until:
                self.mine = None
                return position if not state.done and self.shared.replace(position, state, ended(state)) else None
            if is_held(state, attempt):
                self.shared.replace(position, state, renewed(state))
            else:
                self.mine = None
            return None
        for position in generator.sample(range(len(self.costs)), len(self.costs)):
            state = self.shared.states[position]
            known, since = self.seen.get(position, (None, 0.0))
            if known is not state:
                self.seen[position] = (state, now)
                since = -math.inf if state is FRESH else now
            if may_take(state, since, now):
                mine = taken(state, (self.rank,), LEASE)
                if self.shared.replace(position, state, mine):
                    self.mine, self.until = (position, mine.attempt), now + self.costs[position]
                    return None
        return None


@pytest.mark.parametrize("seed", range(20))
def test_processes_that_share_states_and_no_clock_do_every_cell_once(seed):
    generator = random.Random(seed)
    costs = [generator.uniform(1, 300) for _ in range(30)]
    shared = SharedStates(len(costs))
    processes = [Process(shared, rank, generator.uniform(-1e6, 1e6), costs) for rank in range(5)]
    done, time, deaths = [], 0.0, 0
    while len(done) < len(costs):
        time += generator.uniform(0, 2)
        process = generator.choice(processes)
        if generator.random() < 0.002 and process.mine is not None:
            process.mine = None  # it dies, and comes back without what it had
            deaths += 1
        record = process.step(time, generator)
        if record is not None:
            done.append(record)
        holders = [mine.mine for mine in processes if mine.mine is not None]
        # Whoever renews in time is alone with its cell.
        current = [held for held in holders if is_held(shared.states[held[0]], held[1])]
        assert len(set(current)) == len(current)
        assert time < 1e5
    assert sorted(done) == list(range(len(costs)))
    assert sum(state.losses for state in shared.states) <= deaths
