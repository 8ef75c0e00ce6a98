"""Which worker takes which cell when. Imports nothing that computes and reads no clock: every time is an argument.

The functions on one cell's State decide; `Pool` applies them in the memory of one process. A run over several processes
applies the same functions to states in a key-value store with compare-and-set, such as torch.distributed's:

- `cell/<position>`, the position as of `ordered`, holds the cell's State as text. Only `compare_set(key, as read, as it
  shall be)` writes it, and who finds that the text has changed reads it again and decides anew.
- `add("next", 1)` is the first position that nobody has taken yet: one call per cell. Who comes past the last position
  looks through those that are not done.
- A State says how long it holds, not until when. Each process counts from when it first saw the text, by its own
  monotonic clock, and a renewal changes the text (`beat`): so the clocks of machines need not agree, nor may a jump of
  one end a lease.
- Where `stopped` is set nobody takes a cell any more.

A cell's record is written before `finish`, and who takes a cell looks for its record first. So whatever is cut off
between any two of these steps, the cell comes back and nothing is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf
from typing import Generic, Literal, TypeVar

from benchmarks.failures import Policy

Id = TypeVar("Id", bound=Hashable)
Worker = int
"""The rank of a process."""
Verdict = Literal["again", "last", "stale"]
"""Of a failure: the cell will be tried again; this was its last try, and it is to be recorded as failed and finished;
or the worker no longer held it, and has nothing to do."""


@dataclass(frozen=True, slots=True)
class Job(Generic[Id]):
    """A cell to do.

    Args:
        seconds: how long it is expected to take; None where nothing is known.
        width: how many processes work on it together.
        failed_before: whether it failed in an earlier run.
    """

    id: Id
    seconds: float | None = None
    width: int = 1
    failed_before: bool = False


def ordered(jobs: Iterable[Job[Id]]) -> list[Job[Id]]:
    """Return the cells in the order that they are handed out in.

    Those that failed in an earlier run come last: if they fail again, they keep none from its turn. Wide ones come
    first, the widest first of all: at the start all workers are free, and those of a wide cell that ends are at once
    enough for the next, while later they would have to wait for each other. Then longest first, so that short ones even
    out the ends; one of unknown length counts as longest, since a long one that comes up at the end is what costs most,
    and its time says more about those like it the sooner it is known. Else they keep their order.

    >>> [job.id for job in ordered([Job("short", 1.0), Job("new"), Job("long", 9.0), Job("wide", 2.0, width=2)])]
    ['wide', 'new', 'long', 'short']
    """
    return sorted(jobs, key=lambda job: (job.failed_before, -job.width, -(inf if job.seconds is None else job.seconds)))


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one cell: small, and of no other cell.

    It holds for some seconds: as a lease where it names workers, else as a pause. Then the cell may be taken.

    Args:
        attempt: how often it was taken; who holds the cell knows it by this number.
        beat: how often its lease was renewed.
        workers: who holds it, the one that leads first.
        holds: seconds, from when this state was made or its lease renewed.
        failures: how often it failed.
        losses: how often its workers were lost.
        done: whether it has its record, good or failed.
    """

    attempt: int = 0
    beat: int = 0
    workers: tuple[Worker, ...] = ()
    holds: float = 0.0
    failures: int = 0
    losses: int = 0
    done: bool = False


def may_take(state: State, since: float, now: float) -> bool:
    """Return whether a cell may be taken whose state has been this since then."""
    return not state.done and now >= since + state.holds


def taken(state: State, workers: tuple[Worker, ...], lease: float) -> State:
    """Return the state of a cell that may be taken, in the hands of these workers for `lease` seconds."""
    free = lost(state) if state.workers else state
    return replace(free, attempt=free.attempt + 1, workers=workers, holds=lease)


def is_held(state: State, attempt: int) -> bool:
    """Return whether the workers of this attempt hold the cell, if only because nobody else took it after its lease."""
    return not state.done and bool(state.workers) and state.attempt == attempt


def renewed(state: State) -> State:
    """Return the state of a cell whose workers go on."""
    return replace(state, beat=state.beat + 1)


def lost(state: State) -> State:
    """Return the state of a cell whose workers are lost."""
    return replace(state, workers=(), holds=0.0, losses=state.losses + 1)


def after_failure(state: State, policy: Policy) -> State | None:
    """Return the state of a cell that failed, None where this was its last try.

    A cell has one count of failures, whatever their kinds, so that none goes on for ever by failing in many ways.
    """
    if state.failures >= policy.retries:
        return None
    failures = state.failures + 1
    return replace(state, workers=(), holds=policy.pause_after(failures), failures=failures)


def ended(state: State) -> State:
    """Return the state of a cell that has its record."""
    return replace(state, workers=(), done=True)


@dataclass(frozen=True, slots=True)
class Lease(Generic[Id]):
    """A cell in the hands of one worker, or of as many as it needs.

    Args:
        workers: the one that leads first: it renews, and it finishes or fails the cell.
        failures: how often the cell failed before.
        hopeless: its workers were lost too often. It is to be recorded as failed, and finished, without another try.
    """

    id: Id
    attempt: int
    workers: tuple[Worker, ...]
    failures: int
    hopeless: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing for this worker now. It asks again by `until`; sooner does no harm."""

    until: float


FRESH = State()
PATIENCE = 3
"""Leases for which workers wait for others that a wide cell needs, where nothing else is left to do."""


class Pool(Generic[Id]):
    """The cells of a run and who holds them.

    A worker asks with `take`, until there is nothing left. What it is given it renews several times per lease, and
    ends with `finish` or `fail`. The Pool itself ends no cell: whatever happens to workers, a cell is handed out until
    one of them says that it has its record.

    While a wide cell is next, workers that ask wait for it until they are as many as it needs. The last of them is
    given it at once, and leads; the others get it as they ask again. Where fewer workers than that were heard of within
    the time of a lease, it is set aside until there are enough.

    `take` of a cell, `renew`, `finish` and `fail` take O(log n) time, spread over the calls, for n cells.

    Args:
        world: how many workers the run has.
        lease: seconds for which a cell that is not renewed stays with its workers.
        max_losses: how often the workers of a cell may be lost, before it is handed out as hopeless: it may be the cell
            that ends them.

    Raises:
        ValueError: a cell that stands there twice, needs more workers than there are or none, or has no good length.
    """

    def __init__(self, jobs: Iterable[Job[Id]], world: int, lease: float, max_losses: int = 3) -> None:
        self.lease = lease
        self.max_losses = max_losses
        self._jobs = ordered(jobs)
        self._positions = {job.id: position for position, job in enumerate(self._jobs)}
        self._check(world)
        self.left = len(self._jobs)
        self._states = [FRESH] * self.left
        self._since = [-inf] * self.left
        # Positions of cells that may be taken; one that no longer may is dropped when it comes up.
        self._ready = list(range(self.left))
        self._is_ready = [True] * self.left
        # (when a state may have ended, position, the state's number), one valid entry per state that holds.
        self._deadlines: list[tuple[float, int, int]] = []
        self._numbers = [0] * self.left
        # Wide cells, as (width, position), for which there are too few workers; valid where the set has them.
        self._narrowest: list[tuple[int, int]] = []
        self._aside: set[int] = set()
        self._busy: dict[Worker, int] = {}
        self._untold: set[Worker] = set()
        # Free workers that wait for a wide cell -> when they last asked, the longest ago first.
        self._waiting: OrderedDict[Worker, float] = OrderedDict()
        # All that were heard of within the time of a lease, likewise.
        self._heard: OrderedDict[Worker, float] = OrderedDict()
        self._begun = -inf
        self._stuck_since = inf

    def _check(self, world: int) -> None:
        if len(self._positions) < len(self._jobs):
            ids = [job.id for job in self._jobs]
            twice = next(job.id for position, job in enumerate(self._jobs) if self._positions[job.id] != position)
            raise ValueError(f"jobs: {twice!r} is there {ids.count(twice)} times. Give each cell once.")
        for job in self._jobs:
            if not 1 <= job.width <= world:
                raise ValueError(
                    f"jobs: {job.id!r} needs {job.width} processes, and 1 to {world} are allowed, as many as the run "
                    "has. Start more, or leave this cell out."
                )
            if job.seconds is not None and not 0 <= job.seconds < inf:
                raise ValueError(f"jobs: {job.id!r} has {job.seconds} seconds. Give a number from 0, or None.")

    def state(self, id: Id) -> State:
        """Return what is known of a cell."""
        return self._states[self._positions[id]]

    def unfinished(self) -> list[Id]:
        """Return the cells without a record, in the order that they are handed out in."""
        return [job.id for job, state in zip(self._jobs, self._states, strict=True) if not state.done]

    def take(self, worker: Worker, now: float) -> Lease[Id] | Wait | None:
        """Return the next cell for a worker; None where it may leave.

        It may where all cells have their records, and where for the time of some leases those left need more workers
        than there are. A worker that holds a cell and asks for another has lost it, as after a restart; the cell is
        then to be taken again.
        """
        self._hear((worker,), now)
        self._free_overdue(now)
        if worker in self._busy:
            position = self._busy[worker]
            if worker in self._untold:
                self._untold.remove(worker)
                return self._lease_of(position)
            self._let_go(position, now)
        self._waiting.pop(worker, None)
        self._call_back()
        while self._ready:
            position = self._ready[0]
            if not may_take(self._states[position], self._since[position], now):
                self._pop_ready()
                continue
            width = self._jobs[position].width
            team = (worker,) if width == 1 else self._team(worker, width, now)
            if team:
                self._pop_ready()
                return self._hand_out(position, team, now)
            if not self._is_short(width, now):
                self._waiting[worker] = now
                return self._wait(now)
            self._pop_ready()
            self._aside.add(position)
            heappush(self._narrowest, (width, position))
        return None if self._is_over(now) else self._wait(now)

    def renew(self, lease: Lease[Id], now: float) -> bool:
        """Say that the worker goes on; return whether it still holds the cell.

        Where it does not, another worker has the cell or it is done. What this one makes of it is still welcome if it
        comes first.
        """
        position = self._positions[lease.id]
        state = self._states[position]
        if not is_held(state, lease.attempt):
            return False
        self._hear(lease.workers, now)
        if self._busy.get(lease.workers[0]) == position:
            # The entry in `_deadlines` is put right when its time comes.
            self._states[position] = renewed(state)
            self._since[position] = now
            return True
        # Its lease was over, as after a sleep of the machine, and nobody has taken it since.
        if any(worker in self._busy for worker in lease.workers):
            return False
        self._aside.discard(position)
        self._put(position, renewed(state), now)
        for worker in lease.workers:
            self._waiting.pop(worker, None)
            self._busy[worker] = position
        return True

    def finish(self, lease: Lease[Id]) -> bool:
        """Say that the cell has its record, good or failed; return whether this is the first that is heard of it.

        It is welcome after the end of the lease too: the work is done.
        """
        position = self._positions[lease.id]
        state = self._states[position]
        if state.done:
            return False
        self._dismiss(position)
        self._aside.discard(position)
        self._states[position] = ended(state)
        self._numbers[position] += 1
        self.left -= 1
        return True

    def fail(self, lease: Lease[Id], policy: Policy, now: float) -> Verdict:
        """Say that the cell failed, and return what is to be done.

        After its last try it stays with the worker, which writes the record and calls `finish`.
        """
        position = self._positions[lease.id]
        state = self._states[position]
        if not is_held(state, lease.attempt):
            return "stale"
        after = after_failure(state, policy)
        if after is None:
            return "last"
        self._dismiss(position)
        self._aside.discard(position)
        self._put(position, after, now)
        return "again"

    def _set(self, position: int, state: State, now: float) -> None:
        self._states[position], self._since[position] = state, now
        self._numbers[position] += 1

    def _put(self, position: int, state: State, now: float) -> None:
        """Set a state that holds for a while."""
        self._set(position, state, now)
        heappush(self._deadlines, (now + state.holds, position, self._numbers[position]))

    def _free_overdue(self, now: float) -> None:
        """Put back the cells whose leases and pauses are over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, position, number = heappop(self._deadlines)
            if number == self._numbers[position]:
                due = self._since[position] + self._states[position].holds
                if due > now:
                    heappush(self._deadlines, (due, position, number))
                else:
                    self._dismiss(position)
                    self._push_ready(position)

    def _wait(self, now: float) -> Wait:
        while self._deadlines and self._deadlines[0][2] != self._numbers[self._deadlines[0][1]]:
            heappop(self._deadlines)
        # Often enough to be known as alive.
        often = now + self.lease / 3
        return Wait(min(often, self._deadlines[0][0]) if self._deadlines else often)

    def _let_go(self, position: int, now: float) -> None:
        self._dismiss(position)
        self._set(position, lost(self._states[position]), now)
        self._push_ready(position)

    def _dismiss(self, position: int) -> None:
        """Count the cell's workers as free."""
        for worker in self._states[position].workers:
            if self._busy.get(worker) == position:
                del self._busy[worker]
                self._untold.discard(worker)

    def _push_ready(self, position: int) -> None:
        if not self._is_ready[position] and position not in self._aside:
            self._is_ready[position] = True
            heappush(self._ready, position)

    def _pop_ready(self) -> None:
        self._is_ready[heappop(self._ready)] = False

    def _call_back(self) -> None:
        """Put back the cells that were set aside, where there are enough workers again."""
        heard = len(self._heard)
        while self._narrowest and (self._narrowest[0][1] not in self._aside or self._narrowest[0][0] <= heard):
            _, position = heappop(self._narrowest)
            if position in self._aside:
                self._aside.remove(position)
                self._stuck_since = inf
                self._push_ready(position)

    def _team(self, worker: Worker, width: int, now: float) -> tuple[Worker, ...]:
        """Return the workers for a wide cell, this one first; none where too few are waiting for one."""
        self._drop_silent(self._waiting, now)
        if len(self._waiting) + 1 < width:
            return ()
        # Those that asked last are the surest to be alive.
        return (worker, *(self._waiting.popitem()[0] for _ in range(width - 1)))

    def _is_short(self, width: int, now: float) -> bool:
        return len(self._heard) < width and now >= self._begun + self.lease

    def _is_over(self, now: float) -> bool:
        """Return whether all is done, or too wide for those who have been there for long enough."""
        if self.left > len(self._aside):
            self._stuck_since = inf
        elif self._stuck_since == inf:
            self._stuck_since = now
        return self.left == 0 or now >= self._stuck_since + PATIENCE * self.lease

    def _hear(self, workers: Iterable[Worker], now: float) -> None:
        self._drop_silent(self._heard, now)
        if not self._heard:
            # At the start, and after a sleep of the whole run, all have the time of a lease to come.
            self._begun = now
        for worker in workers:
            self._heard[worker] = now
            self._heard.move_to_end(worker)

    def _drop_silent(self, last_heard: OrderedDict[Worker, float], now: float) -> None:
        while last_heard and now >= next(iter(last_heard.values())) + self.lease:
            last_heard.popitem(last=False)

    def _hand_out(self, position: int, workers: tuple[Worker, ...], now: float) -> Lease[Id]:
        self._put(position, taken(self._states[position], workers, self.lease), now)
        for worker in workers:
            self._busy[worker] = position
        self._untold.update(workers[1:])
        return self._lease_of(position)

    def _lease_of(self, position: int) -> Lease[Id]:
        state = self._states[position]
        hopeless = state.losses > self.max_losses
        return Lease(self._jobs[position].id, state.attempt, state.workers, state.failures, hopeless)
