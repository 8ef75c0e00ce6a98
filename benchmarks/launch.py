"""The processes of a run: one, those that `accelerate launch` started, or those that `start` starts on this machine.

They always have a key-value store in common, by which they share cells. A process group, in which each waits for the
others, they form only where all of them train one cell: one that is lost takes the whole group with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeVar

import psutil

# Where each process has cells of its own they meet only at the end, after cells of unequal length.
MEETING_TIMEOUT = timedelta(hours=12)
# After a cell that all worked on they differ by no more than a slow evaluation.
TELLING_TIMEOUT = timedelta(minutes=10)
# A store that answers no sooner is gone.
STORE_TIMEOUT = timedelta(seconds=60)
# How often the processes are looked after, in seconds, and how many may be lost before the run is given up.
LOOK_EVERY, MOST_REPLACED = 0.2, 20
# How long they have to end by themselves after Ctrl-C: longer than their tracking has.
GRACE_SECONDS, INTERRUPTED = 20.0, 130
# What each of the processes that `start` starts runs.
PROGRAM = (sys.executable, "-m", "benchmarks")

T = TypeVar("T")


class LaunchError(RuntimeError):
    """Processes that were not started as they should have been, or lost each other; the message says what to do."""


class GoneError(LaunchError):
    """Another process of the run ended before its work was done."""


class RunStore:
    """A run's part of a store of torch.distributed; where nothing answers any more, GoneError.

    Args:
        store: a torch.distributed.Store.
        patience: seconds within which it must answer.
    """

    def __init__(self, store: Any, patience: float = STORE_TIMEOUT.total_seconds()) -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        self._store = PrefixStore("dqss-bench", store)
        self._patience = patience

    def add(self, key: str, amount: int) -> int:
        """As of benchmarks.shared_pool.Store."""
        return self._answer(lambda: self._store.add(key, amount))

    def check(self, keys: list[str]) -> bool:
        """As of benchmarks.shared_pool.Store."""
        return self._answer(lambda: self._store.check(keys))

    def get(self, key: str) -> bytes:
        """As of benchmarks.shared_pool.Store."""
        return self._answer(lambda: self._store.get(key))

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """As of benchmarks.shared_pool.Store."""
        return self._answer(lambda: self._store.compare_set(key, expected, desired))

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return what the store answers.

        It waits for ever for a machine that was cut off, whatever its timeout. So it is asked in a thread, which is
        left behind then.
        """
        answers: SimpleQueue[T | RuntimeError] = SimpleQueue()

        def wait() -> None:
            try:
                answers.put(ask())
            except RuntimeError as error:
                answers.put(error)

        Thread(target=wait, daemon=True).start()
        try:
            answer = answers.get(timeout=self._patience)
        except Empty:
            answer = RuntimeError(f"no answer in {self._patience:g} s")
        if isinstance(answer, RuntimeError):
            raise GoneError(
                "the process that holds what the others share (the launcher on the first machine) does not answer any "
                "more. Finished cells are kept; the same command goes on where this run was."
            ) from answer
        return answer


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Args:
        rank: 0 to world - 1; rank 0 tracks, reports and builds the board.
        world: how many there are.
        local_rank: this process's number on its machine; it takes the GPU of that number.
    """

    rank: int
    world: int
    local_rank: int

    def device(self) -> str:
        """Return where this process computes: its own GPU, or `cpu` where there is none or Accelerate was told so."""
        import torch

        return "cpu" if told_cpu() or not torch.cuda.is_available() else f"cuda:{self.local_rank}"

    def store(self) -> RunStore:
        """Return the key-value store that all processes of the run have in common.

        Raises:
            LaunchError: it cannot be reached.
        """
        # Of a store that is gone torch would show its own stack; GoneError says what that means. It reads this once.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from torch.distributed import HashStore, TCPStore  # type: ignore[attr-defined]

        if self.world == 1:
            return RunStore(HashStore())
        address, port = _meeting_place()
        # The launcher holds the store, or else the first process does, as for a process group.
        holds = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            shared = TCPStore(
                address, port, is_master=holds, wait_for_workers=False, multi_tenant=True, timeout=STORE_TIMEOUT
            )
        except RuntimeError as error:
            raise LaunchError(
                f"process {self.rank} of {self.world}: nothing answers at {address}:{port} "
                f"(MASTER_ADDR, MASTER_PORT). Start the first machine too, or name it by --main_process_ip."
            ) from error
        return RunStore(shared)

    def gather(self) -> None:
        """Form the process group, for cells that all processes train together."""
        if self.world > 1:
            import torch
            from accelerate import PartialState

            # Of its own accord it would take processes without a GPU for strangers.
            PartialState(cpu=told_cpu() or not torch.cuda.is_available(), timeout=MEETING_TIMEOUT)

    def meet(self) -> None:
        """Wait until every process of the group is here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def tell(self, word: str) -> list[str]:
        """Return what every process of the run told, in their order; each calls this at about the same time.

        It does not get into the way of what another process may still wait for in a training.

        Raises:
            GoneError: one of them has ended.
            LaunchError: not all have come after TELLING_TIMEOUT.
        """
        if self.world == 1:
            return [word]
        from torch import distributed

        words: list[Any] = [None] * self.world
        begun = monotonic()
        try:
            distributed.all_gather_object(words, word, group=_telling_group())
        except RuntimeError as error:
            place, seconds = f"process {self.rank} of {self.world}", TELLING_TIMEOUT.total_seconds()
            if monotonic() - begun < 0.9 * seconds:
                raise GoneError(
                    f"{place}: another one has ended; see what it said. The same command goes on where this run was."
                ) from error
            raise LaunchError(
                f"{place} has waited {seconds / 60:g} minutes for the others, which are still in the middle of a step "
                "or slower by that. The same command goes on where this run was."
            ) from error
        return words


@cache
def _telling_group() -> Any:
    from torch import distributed

    return distributed.new_group(backend="gloo", timeout=TELLING_TIMEOUT)


def join() -> Processes:
    """Return this process's place in the run.

    Raises:
        LaunchError: `accelerate launch` was told to start several processes and started one; what a launcher sets in
            the environment is no number.
    """
    world = _number("WORLD_SIZE", 1, 1)
    if world == 1:
        _refuse_lone_process()
        return Processes(0, 1, 0)
    rank = _number("RANK", 0, 0)
    return Processes(rank, world, _number("LOCAL_RANK", rank, 0))


def _number(name: str, missing: int, least: int) -> int:
    given = os.environ.get(name, str(missing))
    if not (given.isascii() and given.isdigit() and int(given) >= least):
        raise LaunchError(
            f"{name}: '{given}' is not a number from {least}. Unset it; `accelerate launch` sets its own."
        )
    return int(given)


def _meeting_place() -> tuple[str, int]:
    return os.environ.get("MASTER_ADDR", "localhost"), _number("MASTER_PORT", 29500, 1)


def start(count: int, words: Sequence[str], most_replaced: int = MOST_REPLACED) -> int:
    """Run this program in several processes on this machine, with their own devices and their share of the cores.

    One that is lost is replaced; what it had in hand comes back to the others.

    Args:
        count: how many.
        words: the command line of each, without the program.
        most_replaced: how many may be; 0 for processes that form a group, which nobody can join again.

    Returns:
        The greatest exit code of the processes, 130 after Ctrl-C.

    Raises:
        LaunchError: more processes than GPUs.
    """
    import torch
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if not told_cpu() and 0 < torch.cuda.device_count() < count:
        raise LaunchError(
            f"--processes: {count} are more than the {torch.cuda.device_count()} GPUs of this machine. Start as many, "
            "or set ACCELERATE_USE_CPU=true."
        )
    # Held here, it outlives every process of the run; the system gives a port that is free.
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    threads = max(1, _cores() // count)
    common = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }

    def begun(rank: int) -> subprocess.Popen[bytes]:
        own = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        return subprocess.Popen([*PROGRAM, *words], env=own)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Told to end, it would leave them behind; where a scheduler's handler is set, that one ends it.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    running: dict[int, subprocess.Popen[bytes]] = {}
    replaced, codes = 0, []
    try:
        for rank in range(count):
            running[rank] = begun(rank)
        while running:
            sleep(LOOK_EVERY)
            for rank, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                if code < 0 and replaced < most_replaced:
                    replaced += 1
                    running[rank] = begun(rank)
                else:
                    del running[rank]
                    codes.append(code if code >= 0 else 1)
    except KeyboardInterrupt:
        # The terminal told them too, unless this process alone was meant.
        end = monotonic() + GRACE_SECONDS
        with suppress(subprocess.TimeoutExpired):
            for process in running.values():
                process.wait(max(0.0, end - monotonic()))
        return INTERRUPTED
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return max(codes, default=1)


def _cores() -> int:
    """Return how many cores this process may use: a scheduler or a container may give it fewer than there are."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def told_cpu() -> bool:
    """Return whether Accelerate was told to leave GPUs alone."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")


def _refuse_lone_process() -> None:
    """Raise LaunchError where the parent is an `accelerate launch` that was asked for more than one process.

    `accelerate launch --cpu --num_processes 2` runs one process and says nothing.
    """
    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:
        return
    wanted = asked_for(words)
    if wanted > 1:
        raise LaunchError(
            f"`accelerate launch` was asked for {wanted} processes and started 1 "
            f"({shlex.join(words[:8])} ...). On CPU write "
            f"`ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {wanted} -m benchmarks run SUITE`."
        )


def asked_for(command: list[str]) -> int:
    """Return the number of processes that an `accelerate launch` command line asks for; 1 for any other command.

    >>> asked_for(["python", "/bin/accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "benchmarks"])
    2
    """
    if not all(any(part in word for word in command) for part in ("accelerate", "launch")):
        return 1
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            number = value if equals else following
            return int(number) if number.isdigit() else 1
    return 1
