"""Why a cell failed, by what it raised, by the exit code of its process, or by a text; and what is done about it.

Imports nothing that may be missing or slow: what other packages raise is told by the name of its class.

There is no class whose cells run again with a smaller batch. Cutting a training batch into parts (`accumulation`) has
the same result only up to rounding where nothing learns from a batch as a whole: ranges that are observed batch by
batch move by about 1 percent, and a search takes other steps (docs/adr/0008-training-engine.md). So `accumulation`
stands in a cell's key, and a cell that ran so would be another one.
"""

from __future__ import annotations

import builtins
import re
import shlex
import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.records import Record
    from benchmarks.suite import Cell

Kind = Literal["storage", "out of memory", "diverged", "timeout", "missing data", "infrastructure", "bug"]


class TimeLimitError(RuntimeError):
    """A cell took longer than the run allows one."""


@dataclass(frozen=True)
class Policy:
    """What is done about a failure.

    Args:
        retries: how often a cell that failed is tried again.
        pause: seconds before it is tried again.
        growth: what each further pause is multiplied by.
        then: what follows the last try: `record` the cell as failed and go on, or `stop` the run, which leaves the cell
            to do.
    """

    retries: int
    pause: float = 0.0
    growth: float = 2.0
    then: Literal["record", "stop"] = "record"

    def pause_after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures of the cell, from 1.

        >>> [Policy(3, pause=15.0, growth=4.0).pause_after(failures) for failures in (1, 2, 3)]
        [15.0, 60.0, 240.0]
        """
        return self.pause * self.growth ** (failures - 1)


POLICIES: Mapping[Kind, Policy] = {
    # Every further cell would fail, and its record could not be written either.
    "storage": Policy(0, then="stop"),
    # Processes of one machine peak at the same time; a little later, this one may have its turn.
    "out of memory": Policy(1, pause=30.0),
    # The same seed gives the same numbers.
    "diverged": Policy(0),
    # A training goes on from its last snapshot.
    "timeout": Policy(1),
    "missing data": Policy(0),
    "infrastructure": Policy(3, pause=15.0, growth=4.0),
    "bug": Policy(0),
}


@dataclass(frozen=True)
class _Rule:
    """How a kind is told: by a class among those of the exception, or by what its message says."""

    kind: Kind
    classes: frozenset[str]
    message: re.Pattern[str]


def _rule(kind: Kind, classes: str, *messages: str) -> _Rule:
    return _Rule(kind, frozenset(classes.split()), re.compile("|".join(messages or (r"(?!)",))))


# The first that fits holds: what stops a run comes first, the wide class of operating system errors last.
_RULES = (
    _rule(
        "storage",
        "",
        r"\[Errno (28|30)\]",
        "No space left on device",
        "Disk quota exceeded",
        "Read-only file system",
        "database or disk is full",
        "attempt to write a readonly database",
    ),
    _rule(
        "out of memory",
        "MemoryError OutOfMemoryError",
        "DefaultCPUAllocator: (can't allocate memory|not enough memory)",
        "CUDA out of memory",
        "CUDA error: out of memory",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        "Cannot allocate memory",
        r"\boom[-_ ]kill",
    ),
    # dqss/training.py says the first; the second is what a record answers to a score that is no number.
    _rule("diverged", "FloatingPointError", r"(^|: )loss: -?(nan|inf)\b", "Input should be a finite number"),
    _rule("timeout", "TimeLimitError TimeoutExpired", "DUE TO TIME LIMIT"),
    _rule("missing data", "MissingDataError MissingCheckpointError"),
    _rule(
        "infrastructure",
        "OSError LaunchError GoneError FetchError MlflowException DistError DatabaseError OperationalError "
        "BrokenProcessPool",
        "Connection (reset|closed|refused)",
        r"\bNCCL\b.* error",
        "uncorrectable ECC error",
        # benchmarks/dealing.py says it.
        "the processes that ran it were lost",
    ),
)


def kind_of(error: BaseException, out: Path | None = None) -> Kind:
    """Return what kind of failure an exception is; one that fits no other, nor anything it was raised from, is a bug.

    Args:
        out: the output folder: where nothing may be written to it, the run cannot go on.
    """
    cause: BaseException | None = error
    while cause is not None:
        if out is not None and _is_refused(cause, out):
            return "storage"
        names = {each.__name__ for each in type(cause).__mro__}
        found = _kind_by(names, str(cause))
        if found is not None:
            return found
        # Not `__context__`: what was being handled when a bug struck is not what went wrong.
        cause = cause.__cause__
    return "bug"


def _is_refused(error: BaseException, out: Path) -> bool:
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return False
    return Path(error.filename).resolve().is_relative_to(out.resolve())


def _kind_by(names: Collection[str], message: str) -> Kind | None:
    for rule in _RULES:
        if not rule.classes.isdisjoint(names) or rule.message.search(message):
            return rule.kind
    return None


def kind_of_exit(code: int) -> Kind:
    """Return what kind of failure ended a process, by its exit code: -9 or, through a shell, 137 for signal 9.

    Raises:
        ValueError: 0, which is no failure.
    """
    if code == 0:
        raise ValueError("code: 0 is a process that ended well. Give the code of one that failed.")
    number = -code if code < 0 else code - 128
    return _SIGNALS.get(number, "bug")


# By name: not every system has them all.
_NAMED_SIGNALS: Mapping[str, Kind] = {
    # Nobody else sends it without asking first: the kernel, where memory has run out.
    "SIGKILL": "out of memory",
    "SIGXCPU": "timeout",
    # The machine or its scheduler wants the process gone, or whoever read from it is.
    "SIGTERM": "infrastructure",
    "SIGHUP": "infrastructure",
    "SIGINT": "infrastructure",
    "SIGPIPE": "infrastructure",
    # A page of a mapped file that the disk did not give.
    "SIGBUS": "infrastructure",
}
_SIGNALS = {each.value: _NAMED_SIGNALS[each.name] for each in signal.Signals if each.name in _NAMED_SIGNALS}

# As benchmarks/runner.py says how the process of a cell ended.
_ENDED = re.compile(r"the process of the cell (?:was ended by (SIG\w+)|ended with exit code (\d+))")
_CAUSE = "The above exception was the direct cause of the following exception:"
# As a traceback ends with it, and as the reason of a record has it.
_RAISED = re.compile(r"^(?:process \d+: )?(?:\w+\.)*(\w*(?:Error|Exception|Expired|Interrupt))(?:: |$)", re.MULTILINE)


def kind_of_text(text: str) -> Kind:
    """Return what kind of failure a text tells of: a traceback, the end of a log, or a record's reason.

    Its last exception counts, and what that was raised from; where there is none, whatever the text says.

    >>> kind_of_text("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    'out of memory'
    >>> kind_of_text("KeyError: 'weight'")
    'bug'
    >>> kind_of_text("the process of the cell was ended by SIGTERM.")
    'infrastructure'
    """
    if (ended := _ENDED.search(text)) is not None:
        return _NAMED_SIGNALS.get(ended[1], "bug") if ended[1] else kind_of_exit(int(ended[2]) or 1)
    is_raised = False
    for part in reversed(text.split(_CAUSE)):
        raised = list(_RAISED.finditer(part))
        if not raised:
            continue
        is_raised = True
        builtin = getattr(builtins, raised[-1][1], None)
        names = {each.__name__ for each in builtin.__mro__} if isinstance(builtin, type) else {raised[-1][1]}
        found = _kind_by(names, part[raised[-1].start() :])
        if found is not None:
            return found
    return "bug" if is_raised else _kind_by((), text) or "bug"


def alone(of: Cell | Record, suite: str, out: Path) -> str:
    """Return the command that runs one cell and no other.

    Args:
        of: the cell, or its record.
        suite: as the user names it.
        out: the output folder.
    """
    keys = ("model", "bits", "mode", "method", "protocol")
    only = ",".join(f"{key}={getattr(of, key)}" for key in keys)
    seed = [] if of.seed is None else ["--seeds", str(of.seed)]
    return shlex.join(["dqss-bench", "run", suite, "--out", str(out), "--only", only, *seed])
