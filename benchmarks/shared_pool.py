"""The cells of a run shared by its processes, through the key-value store that they have in common.

Each process decides for itself, by the functions of pool.py, from what the store holds; nobody deals out. pool.py says
what stands there under which key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from time import monotonic
from typing import Generic, Protocol

from benchmarks.failures import Policy
from benchmarks.pool import (
    FRESH,
    Id,
    Job,
    Lease,
    State,
    Verdict,
    Wait,
    Worker,
    after_failure,
    ended,
    is_held,
    may_take,
    ordered,
    renewed,
    taken,
)


class Store(Protocol):
    """What is used of torch.distributed.Store."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a number that begins at 0 and return the sum."""

    def check(self, keys: list[str], /) -> bool:
        """Return whether all keys have a value."""

    def get(self, key: str, /) -> bytes:
        """Return the value of a key that has one."""

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Set a key to a value if it has the expected one, "" where it has none; return the value that it has then."""


def agreed(store: Store, jobs: Sequence[Job[str]]) -> list[Job[str]]:
    """Return the jobs as the first process of the run that came here planned them, the same in all processes."""
    mine = json.dumps([asdict(job) for job in jobs])
    return [Job(**fields) for fields in json.loads(store.compare_set("jobs", "", mine))]


class SharedPool(Generic[Id]):
    """One process's view of the cells that are shared; of cells for one process each.

    As with Pool, a cell is handed out until one of the processes says that it has its record. One that comes back waits
    until all others were handed out.

    Args:
        store: all processes of the run see the same.
        jobs: the same in all of them.
        worker: this process.
        lease: seconds for which a cell that is not renewed stays with its process.
        max_losses: as of Pool.
        clock: of this process alone; those of others need not agree.
    """

    def __init__(
        self,
        store: Store,
        jobs: Iterable[Job[Id]],
        worker: Worker,
        lease: float,
        max_losses: int = 3,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._worker, self._lease = store, worker, lease
        self._max_losses, self._clock = max_losses, clock
        self._jobs = ordered(jobs)
        self._positions = {job.id: position for position, job in enumerate(self._jobs)}
        # Cells not yet known to be done, and what was seen of each: its text and since when.
        self._open = dict.fromkeys(range(len(self._jobs)))
        self._seen: dict[int, tuple[str, float]] = {}
        self._fresh_left = True

    def take(self) -> Lease[Id] | Wait | None:
        """Return the next cell for this process, when to ask again, or None where it may leave.

        It may where every cell has its record, or one process has stopped all.
        """
        if self._store.check(["stopped"]):
            return None
        while self._fresh_left:
            position = self._store.add("next", 1) - 1
            self._fresh_left = position < len(self._jobs)
            if self._fresh_left and (lease := self._try(position)) is not None:
                return lease
        until = self._clock() + self._lease / 3
        for position in list(self._open):
            text, since = self._look(position)
            state = _state(text)
            if state.done:
                del self._open[position]
            elif may_take(state, since, self._clock()):
                if (lease := self._try(position)) is not None:
                    return lease
            else:
                until = min(until, since + state.holds)
        return Wait(until) if self._open else None

    def renew(self, lease: Lease[Id]) -> bool:
        """As of Pool."""
        return self._change(lease, renewed)

    def put_back(self, lease: Lease[Id], pause: float) -> None:
        """Give a cell back untried, for as many seconds at least."""
        self._change(lease, lambda state: replace(state, workers=(), holds=pause))

    def stop(self) -> None:
        """Let nobody take a cell any more."""
        self._store.add("stopped", 1)

    def finish(self, lease: Lease[Id]) -> bool:
        """As of Pool."""
        position = self._positions[lease.id]
        # Two that finish would write the same text, and could not tell by it who was first.
        is_first = self._store.add(f"finished/{position}", 1) == 1
        while not _state(text := self._read(position)).done:
            self._write(position, text, ended(_state(text)))
        return is_first

    def fail(self, lease: Lease[Id], policy: Policy) -> Verdict:
        """As of Pool."""
        position = self._positions[lease.id]
        while is_held(state := _state(text := self._read(position)), lease.attempt):
            after = after_failure(state, policy)
            if after is None:
                return "last"
            if self._write(position, text, after):
                return "again"
        return "stale"

    def _change(self, lease: Lease[Id], change: Callable[[State], State]) -> bool:
        position = self._positions[lease.id]
        while is_held(state := _state(text := self._read(position)), lease.attempt):
            if self._write(position, text, change(state)):
                return True
        return False

    def _try(self, position: int) -> Lease[Id] | None:
        """Take a cell, unless another process has it or was quicker."""
        text, since = self._look(position)
        state = _state(text)
        if not may_take(state, since, self._clock()):
            return None
        mine = taken(state, (self._worker,), self._lease)
        if not self._write(position, text, mine):
            return None
        hopeless = mine.losses > self._max_losses
        return Lease(self._jobs[position].id, mine.attempt, mine.workers, mine.failures, hopeless)

    def _look(self, position: int) -> tuple[str, float]:
        """Return what stands there, and since when, as far as this process has seen."""
        text = self._read(position)
        if position not in self._seen or self._seen[position][0] != text:
            self._seen[position] = text, self._clock()
        return self._seen[position]

    def _read(self, position: int) -> str:
        key = _key(position)
        return self._store.get(key).decode() if self._store.check([key]) else ""

    def _write(self, position: int, expected: str, state: State) -> bool:
        """Set a state where the text is still what was read; return whether it was."""
        # But for an end, two never write the same: the text says who has the cell, and that one alone changes it.
        desired = json.dumps(asdict(state))
        return self._store.compare_set(_key(position), expected, desired).decode() == desired


def _key(position: int) -> str:
    return f"cell/{position}"


def _state(text: str) -> State:
    if not text:
        return FRESH
    fields = json.loads(text)
    return State(**{**fields, "workers": tuple(fields["workers"])})
