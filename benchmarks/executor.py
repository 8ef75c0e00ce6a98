"""A run as jobs of a cluster: several alike on one output folder, each taking the next cell that no other has begun.

No job is given a list of cells, so one that is lost, late or requeued leaves nothing undone: the others take what it
had claimed. The only module that imports submitit.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.progress import one_line

if TYPE_CHECKING:
    from benchmarks.schedule import Plan

Executor = Literal["slurm", "local"]
EXECUTORS: tuple[Executor, ...] = ("slurm", "local")
DEFAULT_JOBS = 8

# Of the time that a job is expected to need it may take so many times, since nodes differ and share what they have,
# and as many minutes more, in which it starts, and is told before it is ended.
FACTOR, SPARE_MINUTES = 2, 5
UNKNOWN_MINUTES = 4 * 60
"""The time limit where nothing has been measured."""
MOST_MINUTES = 24 * 60
"""The longest limit that is asked for of its own accord: queues let long jobs wait, and what is cut off is requeued."""
SIGNAL_SECONDS = 90
"""How long before its limit a job is told."""
MOST_REQUEUED = 10
"""How often a job may reach its limit, so that one that never gets anywhere ends."""

SUBMIT_OPTIONS = ("--executor", "--array", "--minutes", "--sbatch")
"""Those of `run` that a job has no use for."""
OPTION = re.compile(r"[a-z][a-z-]*")
OWN_OPTIONS = {"array": "--array", "time": "--minutes"}


class ExecutorError(RuntimeError):
    """Jobs that cannot be submitted; the message says what to do."""


@dataclass(frozen=True)
class Work:
    """What each job does.

    Args:
        words: the command line, without the program.
    """

    words: tuple[str, ...]

    def __call__(self) -> int:
        """Run it and return its exit code.

        Raises:
            RuntimeError: it did not get to its end, so that the scheduler counts the job as failed.
        """
        from benchmarks.cli import main

        code = main(self.words)
        # 1: some cells failed, as their records say.
        if code not in (0, 1):
            raise RuntimeError(f"dqss-bench ended with exit code {code}; see what it said above.")
        return code

    def checkpoint(self) -> Any:
        """Return what a job that is requeued does: the same, since the output folder says what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    # Its name in later versions of submitit.
    __submitit_checkpoint__ = checkpoint


def without(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a command line without these options, each of which takes a value.

    >>> without(["run", "a", "--array", "4", "--out=b", "--minutes=9"], {"--array", "--minutes"})
    ['run', 'a', '--out=b']
    """
    kept, rest = [], iter(words)
    for word in rest:
        if word in names:
            next(rest, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept


def option(text: str) -> tuple[str, str | bool]:
    """Read one option of sbatch.

    >>> option("partition=gpu"), option("exclusive")
    (('partition', 'gpu'), ('exclusive', True))

    Raises:
        ValueError: it is none, or one that DQSS Bench sets.
    """
    name, equals, value = text.partition("=")
    if OPTION.fullmatch(name) is None or not text.isprintable() or (equals and not value):
        raise ValueError(f"'{text}' is not an option of sbatch. Write NAME=VALUE, for example partition=gpu.")
    if name in OWN_OPTIONS:
        raise ValueError(f"'{name}' has an option of its own. Write {OWN_OPTIONS[name]}.")
    return name, value if equals else True


def time_limit(planned: Plan, jobs: int, cell_seconds: float | None) -> int:
    """Return the minutes that a job may take, by what cells like those to come have taken.

    It is enough for the longest cell, whatever else.

    Args:
        planned: what is to be done.
        jobs: how many share it.
        cell_seconds: after which a cell is ended, if the run was told so.
    """
    expected = [row.expected_seconds or 0.0 for row in planned.rows if row.state in ("to do", "failed")]
    longest = FACTOR * max(expected, default=0.0)
    whole = planned.makespan(jobs)
    if whole is None:
        longest, wanted = cell_seconds or 0.0, 60.0 * UNKNOWN_MINUTES
    else:
        if cell_seconds is not None:
            longest = min(longest, cell_seconds)
        wanted = min(FACTOR * whole, 60.0 * MOST_MINUTES)
    return math.ceil(max(longest, wanted) / 60) + SPARE_MINUTES


def submit(
    words: Sequence[str],
    name: str,
    executor: Executor,
    jobs: int,
    minutes: int,
    options: Mapping[str, str | bool],
    logs: Path,
) -> list[str]:
    """Submit jobs, each of which runs this program until nothing is left to do; return their ids.

    One that is preempted, or reaches its time limit, goes back into the queue and goes on.

    Args:
        words: the command line of each, without the program.
        name: of the jobs.
        executor: `slurm`, or `local` for processes of this machine.
        jobs: how many.
        minutes: the time limit of each.
        options: of sbatch, besides.
        logs: the folder for what they say.

    Raises:
        ExecutorError: submitit is missing, or the scheduler is, or refuses.
    """
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError as error:
        raise ExecutorError(
            "--executor needs the package submitit. Get it by `pip install 'dqss-bench[slurm]'`."
        ) from error
    if executor == "slurm" and not all(map(shutil.which, ("sbatch", "srun"))):
        raise ExecutorError("--executor slurm: no sbatch or srun here. Run it where jobs are submitted from.")
    try:
        made = submitit.AutoExecutor(logs / "%j", cluster=executor, slurm_max_num_timeout=MOST_REQUEUED)
        made.update_parameters(
            name=f"dqss-{name}",
            timeout_min=minutes,
            slurm_signal_delay_s=SIGNAL_SECONDS,
            slurm_array_parallelism=jobs,
            # After the failure of a node, too.
            slurm_additional_parameters={"requeue": True, **options},
        )
        with made.batch():
            submitted = [made.submit(Work(tuple(words))) for _ in range(jobs)]
        return [job.job_id for job in submitted]
    except FailedJobError as error:
        raise ExecutorError(f"--executor {executor}: sbatch refused: {one_line(str(error))}") from error
