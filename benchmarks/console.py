"""What people see: progress and tables, live on a terminal, plain lines elsewhere. The only file that imports rich."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from benchmarks.progress import (
    NullProgress,
    PlainProgress,
    announce,
    cell_name,
    counted,
    describe,
    duration,
    one_line,
    remaining,
    say,
)
from benchmarks.results import METHOD, is_dqss, reading_place

if TYPE_CHECKING:
    from benchmarks.records import Record
    from benchmarks.results import Comparison, Line
    from benchmarks.status import Begun, Status
    from benchmarks.suite import Cell

Clock = Callable[[], float]
Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""
Repeat = Callable[["Cell"], str]
"""Returns the command that runs a cell alone."""

# Wide enough that a table in a file or a pipe is not folded.
PLAIN_WIDTH = 200
# Tables of scores in a file are read where lines are shorter than that.
PLAIN_TABLE_WIDTH = 100
# Failed cells of one kind that are named.
TOLD_FAILED = 5
# A gap that keeps one bit-width from the next.
SCORE_WIDTH = 7


def is_live() -> bool:
    """Return whether standard output is a terminal that can redraw a line."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


class _Console(Console):
    """Leaves a reader that went away to the command line, as everything else does that prints."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Return a console on the present standard output; colours as NO_COLOR says, and none where it is no terminal."""
    as_it_is = partial(_Console, file=sys.stdout, markup=False, highlight=False, emoji=False)
    return as_it_is() if is_live() else as_it_is(force_terminal=False, color_system=None, width=PLAIN_WIDTH)


class _TimeLeft(ProgressColumn):
    """Counts down to the task's `deadline`, a time of the bars' clock or None."""

    def render(self, task: Task) -> Text:
        deadline = task.fields.get("deadline")
        left = 0.0 if deadline is None else deadline - task.get_time()
        # Overdue says nothing: a zero that stays would be a promise broken each second.
        return Text(f"{duration(left)} left" if left > 0 else "", style="cyan")


def _bars(clock: Clock, out: Console) -> Bars:
    # Not as wide as the terminal: its echo of Ctrl-C would start a line that nobody takes away again.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    return Bars(*columns, _TimeLeft(), console=out, transient=True, get_time=clock, refresh_per_second=5)


class LiveProgress(NullProgress):
    """Two bars at the foot of the terminal, the whole run and the running cell; finished cells scroll above."""

    def __init__(self, out: Console, clock: Clock = time.monotonic) -> None:
        self._console, self._clock = out, clock
        self._bars = _bars(clock, out)
        self._expected: float | None = None
        self._started = 0.0
        self._total = self._first = self._done = 0
        self._name = ""

    def start(self, total: int, done: int, expected_seconds: float | None) -> None:
        self._total, self._first, self._done = total, done, done
        self._expected, self._started = expected_seconds, self._clock()
        self._console.print(announce(total, done, expected_seconds))
        if done < total:
            self._run = self._bars.add_task("all cells", total=total, completed=done, deadline=None)
            self._cell = self._bars.add_task("", total=None, visible=False)
            self._show_time_left()
            self._bars.start()

    def cell_started(self, cell: Cell) -> None:
        self._name = cell_name(cell)
        self._bars.reset(self._cell, total=None, description=self._name, visible=True)

    def stage(self, name: str, done: int, total: int) -> None:
        self._bars.update(self._cell, description=f"{self._name}: {name}", completed=done, total=total)

    def cell_finished(self, record: Record) -> None:
        self._done += 1
        style = {"ok": "", "failed": "red", "skipped": "yellow"}[record.status]
        self._console.print(Text(describe(record), style=style))
        self._bars.update(self._run, completed=self._done)
        self._show_time_left()

    def warn(self, message: str) -> None:
        self._console.print(Text(one_line(message), style="yellow"))

    def stop(self) -> None:
        self._bars.stop()

    def _show_time_left(self) -> None:
        now = self._clock()
        share = (self._done - self._first) / (self._total - self._first)
        left = remaining(self._expected, now - self._started, share)
        self._bars.update(self._run, deadline=None if left is None else now + left)


def progress() -> PlainProgress | LiveProgress:
    """Return the progress display that suits standard output."""
    return LiveProgress(console()) if is_live() else PlainProgress()


@contextmanager
def reporting() -> Iterator[Report]:
    """Give a report function that shows a single long work: a bar, or a line for each tenth of it."""
    if is_live():
        bars = _bars(time.monotonic, console())
        task = bars.add_task("", total=None)
        with bars:
            yield lambda stage, done, total: bars.update(task, description=stage, completed=done, total=total)
        return
    shown: tuple[int, int] | None = None

    def report(stage: str, done: int, total: int) -> None:
        nonlocal shown
        tenth = (total, 10 * done // total if total else 10)
        if tenth != shown:
            shown = tenth
            say(f"{stage}: {done} of {total}")

    yield report


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; a column named with a trailing `>` is set to the right."""
    table = _table(padding=1)
    for name in columns:
        right = name.endswith(">")
        table.add_column(name.removesuffix(">"), justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console().print(table)


def _table(padding: int) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, padding), pad_edge=False, show_edge=False)


def print_status(status: Status, repeat: Repeat) -> None:
    """Print how a suite stands."""
    out = console()
    for part in _status_parts(status, repeat, None):
        out.print(part, soft_wrap=isinstance(part, Text))


@contextmanager
def watching(repeat: Repeat) -> Iterator[Callable[[Status], None]]:
    """Give a function that shows how a suite stands now in the place of what it showed before; what is last stays.

    Without a terminal it prints a line where something has changed.
    """
    if is_live():
        out = console()
        with Live(console=out, auto_refresh=False) as live:
            # As many rows as leave room for the failed.
            yield lambda status: live.update(
                Group(*_status_parts(status, repeat, max(3, out.height // 2))), refresh=True
            )
        return
    shown: tuple[object, ...] | None = None

    def show(status: Status) -> None:
        nonlocal shown
        state = status.counts, [(one.cell.key, one.holder.token, one.state) for one in status.begun]
        if state != shown:
            shown = state
            say(headline(status))

    yield show


def headline(status: Status) -> str:
    """Return how a suite stands in a line."""
    counts = status.counts
    total = counts.done + counts.running + counts.failed + counts.skipped + counts.left
    text = (
        f"{status.suite}, {counted(total)}: {counts.done} done, {counts.running} running, {counts.failed} failed, "
        f"{counts.skipped} skipped, {counts.left} left."
    )
    if status.is_finished:
        return text
    if not counts.running:
        return f"{text} No process runs any."
    expected = status.expected_seconds
    left = "time left unknown" if expected is None else f"about {duration(expected)} left"
    return f"{text} By {counts.running} process{'' if counts.running == 1 else 'es'}: {left}."


def _status_parts(status: Status, repeat: Repeat, rows: int | None) -> Iterator[Text | Table]:
    """Yield what is shown of a suite, of what was begun this many rows; None for all."""
    yield Text(one_line(headline(status)), style="bold")
    if status.begun:
        yield Text("")
        yield _begun_table(status.begun[:rows])
        if rows is not None and len(status.begun) > rows:
            yield Text(f"and {len(status.begun) - rows} more")
    for kind, failed in status.by_kind.items():
        yield Text(f"\nfailed, {kind}: {counted(len(failed))}", style="red")
        for one in failed[:TOLD_FAILED]:
            yield Text(one_line(f"{cell_name(one.cell)}: {one.reason}"))
            yield Text(f"  alone: {one_line(repeat(one.cell))}")
        if len(failed) > TOLD_FAILED:
            yield Text(f"and {len(failed) - TOLD_FAILED} more; all are in --format json")
    for reason, cells in status.skipped.items():
        yield Text(f"\nskipped: {counted(cells)}", style="yellow")
        yield Text(one_line(reason))


def _begun_table(begun: Sequence[Begun]) -> Table:
    table = _table(padding=1)
    for name in ("cell", "where", "since"):
        table.add_column(name)
    for name in ("for", "of about"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in begun:
        lost = "" if one.state == "running" else "lost: ended" if one.state == "ended" else "lost: "
        lost += f"silent for {duration(one.silent)}" if one.state == "silent" else ""
        times = ["" if seconds is None else duration(seconds) for seconds in (one.seconds, one.expected_seconds)]
        since = "" if one.seconds is None else _local_time(one.holder.since or "")
        table.add_row(*(Text(one_line(text)) for text in (cell_name(one.cell), str(one.holder), since, *times, lost)))
    return table


def _local_time(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print a table per model: methods down, bit-widths across, each with score, gain over best uniform and seconds."""
    out = console()
    for _, group in groupby(comparisons, lambda c: (c.suite, c.suite_version, c.task, c.protocol, c.mode, c.model)):
        together = list(group)
        out.print(Text(_heading(together), style="bold"), soft_wrap=True)
        across = _across(together, out)
        for start in range(0, len(together), across):
            notes: dict[str, int] = {}
            out.print(_comparison_table(together[start : start + across], notes))
            for note, number in notes.items():
                out.print(Text(f"[{number}] {note}"), soft_wrap=True)
            out.print()
    if comparisons:
        metric = next((c.metric for c in comparisons if c.metric is not None), None)
        unit = f", in {metric.difference_unit}" if metric else ""
        for mode in dict.fromkeys(c.mode for c in comparisons):
            out.print(_explanation(mode, unit), soft_wrap=True)
        if any(line.closed is not None for c in comparisons for line in c.lines if line.method == METHOD):
            bars = " or ".join(dict.fromkeys("best-uniform" if c.mode == "ptq" else "the bar" for c in comparisons))
            out.print(f"gap closed: dqss's gain as a share of what {bars} loses to full precision", soft_wrap=True)


def _explanation(mode: str, unit: str) -> str:
    if mode == "ptq":
        return f"gain: over best-uniform at the same bit-width{unit}; sec: search time"
    return (
        f"{mode.upper()} gain: over the bar, the uniform algorithm with the best score on search-validation images at "
        f"the same bit-width{unit}; sec: training time"
    )


def _across(comparisons: Sequence[Comparison], out: Console) -> int:
    """Return how many bit-widths stand side by side, so that no table is too wide or much narrower than the others."""
    limit = out.width if out.is_terminal else PLAIN_TABLE_WIDTH
    room = out.options.update(width=PLAIN_WIDTH)

    def fits(across: int) -> bool:
        parts = [comparisons[start : start + across] for start in range(0, len(comparisons), across)]
        return all(out.measure(_comparison_table(part, {}), options=room).maximum <= limit for part in parts)

    widest = next((across for across in range(len(comparisons), 1, -1) if fits(across)), 1)
    tables = -(-len(comparisons) // widest)
    return -(-len(comparisons) // tables)


def _heading(comparisons: Sequence[Comparison]) -> str:
    first = comparisons[0]
    metric = next((c.metric for c in comparisons if c.metric is not None), None)
    seeds = max((line.seeds for c in comparisons for line in c.lines), default=0)
    facts = [f"{first.suite}: {first.model} on {first.task}", first.mode.upper(), first.protocol]
    facts += [f"{metric.name} in {metric.unit}"] if metric else []
    facts += [f"mean of {seeds} seeds"] if seeds > 1 else []
    return ", ".join(facts)


def _comparison_table(comparisons: Sequence[Comparison], notes: dict[str, int]) -> Table:
    """Return one model's table; number the reasons of what did not end well in `notes`."""
    table = _table(padding=0)
    table.add_column("")
    for comparison in comparisons:
        table.add_column(comparison.bits, justify="right", no_wrap=True, min_width=SCORE_WIDTH)
        table.add_column("gain", justify="right", no_wrap=True)
        table.add_column("sec", justify="right", no_wrap=True)
    full = [(_full_precision(c.full_precision), "", "") for c in comparisons]
    table.add_row("full precision", *chain.from_iterable(full))
    lines = [{line.label: line for line in c.lines} for c in comparisons]
    methods = {line.label: line.method for c in comparisons for line in c.lines}
    # Sorted anew: not every method is at every bit-width.
    for label in sorted(methods, key=lambda label: (reading_place(methods[label]), label)):
        here = [by_label.get(label) for by_label in lines]
        bars = [c.mode != "ptq" and c.bar == methods[label] for c in comparisons]
        cells = [cell for line, bar in zip(here, bars, strict=True) for cell in _cells(line, bar, notes)]
        table.add_row(Text(one_line(label)), *cells, style="bold" if is_dqss(methods[label]) else "")
        shares = [None if line is None else line.closed for line in here]
        if methods[label] == METHOD and shares != [None] * len(shares):
            closed = [("", "" if share is None else f"{share:.0f} %", "") for share in shares]
            table.add_row("gap closed", *chain.from_iterable(closed))
    return table


def _full_precision(measured: tuple[float, float] | None) -> str:
    # Never a mean: scores that differ are of other checkpoints or machines.
    return " to ".join(dict.fromkeys(f"{score:.2f}" for score in measured)) if measured else "-"


def _cells(line: Line | None, is_bar: bool, notes: dict[str, int]) -> tuple[Text, Text, Text]:
    if line is None:
        return Text("-"), Text(""), Text("")
    marks = "".join(f" [{notes.setdefault(one_line(fault), len(notes) + 1)}]" for fault in line.faults)
    # Which algorithm is the bar of training is seen nowhere else.
    gain = Text("bar" if is_bar else "")
    if line.gain is not None:
        # Colour for DQSS alone: it is what the table is read for.
        sign = "green" if line.gain > 0 else "red" if line.gain < 0 else ""
        # Zero has no sign, whichever side it was rounded from.
        text = f"{line.gain:+.2f}" if round(line.gain, 2) else "0.00"
        gain = Text(text, style=sign if is_dqss(line.method) else "")
    score = line.status if line.score is None else f"{line.score:.2f}"
    return Text(score + marks), gain, Text("" if line.seconds is None else f"{line.seconds:.1f}")
