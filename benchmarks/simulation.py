"""How long a run would take: an estimate from the costs of its cells, and the Pool itself under a virtual clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf
from random import Random
from typing import Literal

from benchmarks.pool import Job, Lease, Pool, Wait, is_held

HOUR = 3600.0


def makespan(costs: Iterable[float], workers: int) -> float:
    """Return the seconds until all cells are done, where each worker that becomes free takes the next.

    Args:
        costs: seconds per cell, in the order that they are handed out in.

    >>> makespan([5.0, 4.0, 3.0, 2.0], workers=2)
    7.0
    """
    if workers < 1:
        raise ValueError(f"workers: {workers} is not allowed. Give at least 1.")
    ends = [0.0] * workers
    for seconds in costs:
        heapreplace(ends, ends[0] + seconds)
    return max(ends)


def lower_bound(costs: Sequence[float], workers: int, widths: Sequence[int]) -> float:
    """Return the seconds that no schedule can beat: those of the longest cell, or of all work shared out evenly."""
    work = sum(cost * width for cost, width in zip(costs, widths, strict=True))
    return max(work / workers, max(costs, default=0.0))


@dataclass(frozen=True)
class Faults:
    """What happens to workers.

    Args:
        per_hour: how often a worker fails, on average, in an hour.
        restart: seconds from then until it is back, without what it had.
        cut_off: share of failures in which the worker is only cut off from the others: it ends its cell unheard of, and
            tells of it afterwards.
    """

    per_hour: float = 0.0
    restart: float = 300.0
    cut_off: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """How a simulated run went.

    Args:
        makespan: seconds until the last cell was done.
        bound: seconds that no schedule can beat with workers that never fail.
        failures: of workers.
        repeated: attempts on cells beyond the first of each.
        hopeless: cells recorded as failed because their workers were lost too often.
        late: workers that came with a cell which another had finished.
        lost: cells that were never done.
        doubled: cells that were taken as done twice, or were in the hands of two attempts with good leases.
    """

    makespan: float
    bound: float
    failures: int
    repeated: int
    hopeless: int
    late: int
    lost: int
    doubled: int


def simulate(
    costs: Sequence[float],
    workers: int,
    *,
    faults: Faults | None = None,
    widths: Sequence[int] | None = None,
    lease: float = 300.0,
    seed: int = 0,
) -> Simulated:
    """Return how a Pool does with these cells and workers.

    Args:
        costs: seconds per cell, which the Pool knows too.
        faults: None for none.
        widths: how many workers each cell needs; None for 1 each.
        lease: as of Pool, in seconds; it is renewed three times as often.
    """
    return _Simulation(costs, workers, faults or Faults(), widths or [1] * len(costs), lease, seed).run()


Event = Literal["ask", "renew", "end", "fail"]


class _Simulation:
    """A queue of what workers do next."""

    def __init__(
        self, costs: Sequence[float], workers: int, faults: Faults, widths: Sequence[int], lease: float, seed: int
    ) -> None:
        self.costs, self.faults, self.lease = costs, faults, lease
        self.random = Random(seed)
        self.bound = lower_bound(costs, workers, widths)
        jobs = zip(range(len(costs)), costs, widths, strict=True)
        self.pool = Pool((Job(cell, cost, width) for cell, cost, width in jobs), workers, lease)
        self.ties = count()
        self.events: list[tuple[float, int, Event, int, int]] = []
        # Of each worker: which life it is in, so that events of an earlier one are nothing; what it holds; whether it
        # is there, and heard.
        self.lives = [0] * workers
        self.held: list[Lease[int] | None] = [None] * workers
        self.is_up = [True] * workers
        self.is_heard = [True] * workers
        # What the Pool ought to know, kept without it.
        self.good_until = [-inf] * len(costs)
        self.times_done = [0] * len(costs)
        self.makespan = 0.0
        self.failures = self.repeated = self.hopeless = self.late = self.clashes = 0
        for worker in range(workers):
            self.push(0.0, "ask", worker)
            self.push_failure(0.0, worker)

    def push(self, time: float, event: Event, worker: int) -> None:
        heappush(self.events, (time, next(self.ties), event, worker, self.lives[worker]))

    def push_failure(self, now: float, worker: int) -> None:
        if self.faults.per_hour > 0:
            self.push(now + self.random.expovariate(self.faults.per_hour / HOUR), "fail", worker)

    def run(self) -> Simulated:
        here = len(self.lives)
        while here:
            now, _, event, worker, life = heappop(self.events)
            if event == "fail":
                self.fail(worker, now)
            elif life != self.lives[worker]:
                continue
            elif event == "renew":
                self.renew(worker, now)
            else:
                if event == "end":
                    self.end(worker, now)
                here -= not self.ask(worker, now)
        return Simulated(
            makespan=self.makespan,
            bound=self.bound,
            failures=self.failures,
            repeated=self.repeated,
            hopeless=self.hopeless,
            late=self.late,
            lost=self.times_done.count(0),
            doubled=sum(times > 1 for times in self.times_done) + self.clashes,
        )

    def ask(self, worker: int, now: float) -> bool:
        """Ask for a cell; return whether the worker stays."""
        self.lives[worker] += 1
        self.is_up[worker] = self.is_heard[worker] = True
        held, self.held[worker] = self.held[worker], None
        was_current = held is not None and is_held(self.pool.state(held.id), held.attempt)
        answer = self.pool.take(worker, now)
        if held is not None and answer == held:
            # It was away when its team was called together, and the others have waited in vain.
            self.held[worker] = held
            self.push(now + self.lease, "ask", worker)
            return True
        if held is not None and was_current:
            # The Pool has put back what the worker no longer had.
            self.good_until[held.id] = now
        if isinstance(answer, Wait):
            self.push(answer.until, "ask", worker)
        elif answer is not None:
            self.begin(answer, now)
        else:
            self.is_up[worker] = False
        return answer is not None

    def begin(self, lease: Lease[int], now: float) -> None:
        self.clashes += self.good_until[lease.id] > now
        self.good_until[lease.id] = now + self.lease
        self.repeated += lease.attempt > 1
        self.hopeless += lease.hopeless
        for worker in lease.workers:
            self.held[worker] = lease
        if not all(self.is_up[worker] for worker in lease.workers):
            self.part(lease, now)
            return
        for worker in lease.workers:
            self.lives[worker] += 1
        for worker in lease.workers[1:]:
            # They ask again about now, and hear that they have it.
            self.clashes += self.pool.take(worker, now) != lease
        self.push(now + self.lease / 3, "renew", lease.workers[0])
        for worker in lease.workers:
            self.push(now + (0.0 if lease.hopeless else self.costs[lease.id]), "end", worker)

    def part(self, lease: Lease[int], now: float) -> None:
        """Let the workers of a wide cell go, of whom one is gone: the others wait for it in vain and ask anew."""
        for worker in lease.workers:
            if self.is_up[worker] and self.held[worker] == lease:
                self.lives[worker] += 1
                self.push(now + self.lease, "ask", worker)

    def renew(self, worker: int, now: float) -> None:
        lease = self.held[worker]
        assert lease is not None
        if not self.is_heard[worker]:
            return
        if self.pool.renew(lease, now):
            self.good_until[lease.id] = now + self.lease
            self.push(now + self.lease / 3, "renew", worker)
        else:
            for member in lease.workers:
                self.lives[member] += 1
                self.push(now, "ask", member)

    def end(self, worker: int, now: float) -> None:
        lease, self.held[worker] = self.held[worker], None
        if lease is not None and worker == lease.workers[0]:
            if self.pool.finish(lease):
                self.times_done[lease.id] += 1
                self.good_until[lease.id] = -inf
                self.makespan = now
            else:
                self.late += 1

    def fail(self, worker: int, now: float) -> None:
        self.push_failure(now, worker)
        if not self.is_up[worker]:
            return
        self.failures += 1
        lease = self.held[worker]
        is_alone = lease is not None and len(lease.workers) == 1
        if is_alone and self.random.random() < self.faults.cut_off:
            self.is_heard[worker] = False
            return
        self.is_up[worker] = False
        if lease is not None and not is_alone:
            self.part(lease, now)
        self.lives[worker] += 1
        self.push(now + self.faults.restart, "ask", worker)
