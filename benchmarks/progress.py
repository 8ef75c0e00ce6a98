"""Progress in plain lines, and how times, cells and finished records read. Needs no terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dqss.spec import COMMON_PROTOCOL

if TYPE_CHECKING:
    from benchmarks.records import Record
    from benchmarks.suite import Cell


def one_line(text: str) -> str:
    """Return the text on one line, without characters that would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def say(text: str = "") -> None:
    """Print a line, at once even into a pipe."""
    print(text, flush=True)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    print(f"dqss-bench: {one_line(message)}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(3.21), duration(42.7), duration(75), duration(7260)
    ('3.2 s', '43 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def method_name(cell: Cell | Record) -> str:
    """Return the method, and before it the mode where that is not `ptq`: a suite may have one name in both."""
    return cell.method if cell.mode == "ptq" else f"{cell.mode} {cell.method}"


def cell_name(cell: Cell | Record) -> str:
    """Return what tells a cell from the others of its suite."""
    seed = "" if cell.seed is None else f" seed {cell.seed}"
    return f"{cell.model} {cell.bits} {method_name(cell)}{seed}{_protocol(cell)}"


def _protocol(cell: Cell | Record) -> str:
    return "" if cell.protocol == COMMON_PROTOCOL else f" ({cell.protocol})"


def describe(record: Record) -> str:
    """Return a finished cell on one line: its name, then its score and search time, or why there is none."""
    name = f"{record.model:<18} {record.bits}  {method_name(record):<18} "
    name += f"{'' if record.seed is None else f'seed {record.seed}':<8}{_protocol(record)}"
    if record.status != "ok":
        return f"{name} {record.status}: {one_line(record.reason or 'no reason recorded')}"
    score = "-" if record.score is None else f"{record.score:.2f}"
    unit = f" {record.metric.unit}" if record.metric else ""
    seconds = "-" if record.search_seconds is None else f"{record.search_seconds:.1f} s"
    return f"{name} {score:>6}{unit} {seconds:>9}"


def remaining(expected: float | None, elapsed: float, share: float) -> float | None:
    """Return the seconds that are left of a run.

    The total moves from what earlier records let us expect to what this run has needed, as this run goes on.

    Args:
        expected: seconds for the whole run; None where unknown.
        elapsed: seconds so far.
        share: of the work that is done, 0 to 1.

    >>> remaining(100.0, 0.0, 0.0), remaining(100.0, 100.0, 0.5), remaining(None, 30.0, 0.75), remaining(None, 5.0, 0.0)
    (100.0, 75.0, 10.0, None)
    """
    if expected is None:
        return elapsed * (1 - share) / share if share > 0 else None
    return (1 - share) * ((1 - share) * expected + elapsed)


def counted(cells: int) -> str:
    """Return a number of cells.

    >>> counted(1), counted(63)
    ('1 cell', '63 cells')
    """
    return f"{cells} cell{'' if cells == 1 else 's'}"


def announce(total: int, done: int, expected: float | None) -> str:
    """Return the first line of a run."""
    text = f"{counted(total)}, {done} done already"
    return text if expected is None or done == total else f"{text}; about {duration(expected)} to go"


class NullProgress:
    """Shows nothing: for every process but the first."""

    def start(self, total: int, done: int, expected_seconds: float | None) -> None: ...

    def cell_started(self, cell: Cell) -> None: ...

    def stage(self, name: str, done: int, total: int) -> None: ...

    def cell_finished(self, record: Record) -> None: ...

    def warn(self, message: str) -> None: ...

    def stop(self) -> None: ...


class PlainProgress(NullProgress):
    """One line at the start and one for each finished cell."""

    def __init__(self) -> None:
        self._total = self._done = 0

    def start(self, total: int, done: int, expected_seconds: float | None) -> None:
        self._total, self._done = total, done
        say(announce(total, done, expected_seconds))

    def cell_finished(self, record: Record) -> None:
        self._done += 1
        say(f"[{self._done:>{len(str(self._total))}}/{self._total}] {describe(record)}")

    def warn(self, message: str) -> None:
        warn(message)
