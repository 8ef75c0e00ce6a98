"""The processes of a run: one, or those that `accelerate launch` started."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from time import monotonic
from typing import Any

import psutil

# Where each process has cells of its own they meet only at the end, after cells of unequal length.
MEETING_TIMEOUT = timedelta(hours=12)
# After a cell that all worked on they differ by no more than a slow evaluation.
TELLING_TIMEOUT = timedelta(minutes=10)


class LaunchError(RuntimeError):
    """Processes that were not started as they should have been, or lost each other; the message says what to do."""


class GoneError(LaunchError):
    """Another process of the run ended before its work was done."""


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

    def meet(self) -> None:
        """Wait until every process of the run is here."""
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
    """Return this process's place in the run, after meeting the others where there are any.

    Raises:
        LaunchError: `accelerate launch` was told to start several processes and started one; WORLD_SIZE is no number.
    """
    world = _world()
    if world == 1:
        _refuse_lone_process()
        return Processes(0, 1, 0)
    import torch
    from accelerate import PartialState

    # Of its own accord it would take processes without a GPU for strangers.
    state = PartialState(cpu=told_cpu() or not torch.cuda.is_available(), timeout=MEETING_TIMEOUT)
    return Processes(state.process_index, state.num_processes, state.local_process_index)


def _world() -> int:
    given = os.environ.get("WORLD_SIZE", "1")
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise LaunchError(
            f"WORLD_SIZE: '{given}' is not a number of processes. Unset it; `accelerate launch` sets its own."
        )
    return int(given)


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
