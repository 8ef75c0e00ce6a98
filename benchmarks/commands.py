"""What the commands of `dqss-bench` on suites and records do, from their parsed options to their exit code.

Everything heavy is imported where it is used, so that help and complaints come at once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.progress import NullProgress, counted, duration, method_name, say, warn
from dqss.registry import did_you_mean

if TYPE_CHECKING:
    from benchmarks.parallel import Sharing
    from benchmarks.records import Record
    from benchmarks.status import Status
    from benchmarks.suite import Cell

Command = Callable[[argparse.Namespace], int]

OK, SOME_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
DISTRIBUTION = "dqss-bench"
WATCH_SECONDS = 2.0


class CommandError(Exception):
    """A command that cannot do what it was asked; the message says why and what to do."""


def user_errors() -> tuple[type[Exception], ...]:
    """Return the errors that are the input's or the machine's fault: a message, and no traceback."""
    from benchmarks.checkpoints import MissingCheckpointError
    from benchmarks.datasets import FetchError, MissingDataError
    from benchmarks.executor import ExecutorError
    from benchmarks.launch import LaunchError
    from benchmarks.loss_table import LossTableError
    from benchmarks.merge import MergeError
    from benchmarks.results import NoRecordsError
    from benchmarks.suite import SuiteError
    from dqss.registry import UnknownNameError

    return (
        CommandError,
        FetchError,
        LaunchError,
        LossTableError,
        MergeError,
        MissingCheckpointError,
        MissingDataError,
        NoRecordsError,
        ExecutorError,
        SuiteError,
        UnknownNameError,
        OSError,
    )


def message_of(error: Exception) -> str:
    """Return one line for an error of `user_errors`."""
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}."
    return " ".join(str(error).split())


def incomplete(args: argparse.Namespace) -> int:
    """Print the help of a command that was given without the subcommand it needs."""
    args.parser.print_help(sys.stderr)
    return BAD_USAGE


def version(args: argparse.Namespace) -> int:
    """Print the installed version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(DISTRIBUTION)
    except PackageNotFoundError:
        found = "(not installed)"
    print(DISTRIBUTION, found)
    return OK


def _cells(args: argparse.Namespace) -> list[Cell]:
    from benchmarks.suite import cells_of, find_suite, load_suite, parse_only, parse_seeds, select

    only = parse_only(",".join(args.only)) if args.only else {}
    seeds = None if args.seeds is None else parse_seeds(args.seeds)
    chosen = select(cells_of(load_suite(find_suite(args.suite)), seeds), only)
    if args.shard is None:
        return chosen
    part: list[Cell] = args.shard.of(chosen)
    if not part:
        raise CommandError(f"--shard: only {counted(len(chosen))} for {args.shard.count} parts. Make fewer parts.")
    return part


def check_writable(folder: Path, option: str) -> None:
    """Make the folder that an option names; raise CommandError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CommandError(
            f"cannot write to the folder '{folder}': {error.strerror}. Name another one with {option}."
        ) from error


def run(args: argparse.Namespace) -> int:
    """Run a suite's cells that are not done, then show how the methods compare and where everything is."""
    cells = _cells(args)
    if "?" in str(args.out):
        raise CommandError(
            f"the folder '{args.out}' has a '?' in its name, which cuts an SQLite address short. Rename it."
        )
    for folder in (args.out, args.out / cells[0].suite):
        check_writable(folder, "--out")
    if args.executor is not None:
        return _submit(cells, args)
    for name in ("array", "minutes", "sbatch"):
        if getattr(args, name):
            raise CommandError(f"--{name} is of jobs. Write --executor slurm, or leave it out.")
    if args.processes is not None:
        from benchmarks.launch import MOST_REPLACED, start

        if (launched := os.environ.get("WORLD_SIZE")) is None:
            return start(args.processes, args.words, 0 if args.parallel == "data" else MOST_REPLACED)
        if launched != str(args.processes):
            raise CommandError(
                f"--processes: {args.processes} is not allowed where a launcher has started {launched} (WORLD_SIZE). "
                "Leave it out, or start without a launcher."
            )
    from benchmarks import console
    from benchmarks.records import logs_folder
    from benchmarks.results import compare
    from benchmarks.runner import Child
    from benchmarks.schedule import run_cells

    def runner_of(sharing: Sharing, out: Path) -> Child:
        log = logs_folder(out, cells[0].suite) / f"{socket.gethostname()}-{sharing.processes.rank}.log"
        return Child(sharing, out, log, args.timeout)

    # Launched as one of several processes, only the first speaks.
    first = os.environ.get("RANK", "0") == "0"
    progress = console.progress() if first else NullProgress()
    try:
        records = run_cells(
            cells,
            args.out,
            progress,
            fail_fast=args.fail_fast,
            max_cells=args.max_cells,
            parallel=args.parallel,
            runner_of=runner_of,
            retries=args.retries,
        )
    except KeyboardInterrupt:
        progress.stop()
        if first:
            say(f"Stopped. Finished cells are kept; `{args.command_line}` goes on where this run was.")
        return INTERRUPTED
    finally:
        progress.stop()
    failed = sum(record.status == "failed" for record in records)
    if first:
        say()
        console.print_comparisons(compare(records))
        _tell_failed([record for record in records if record.status == "failed"], args)
        _tell_rest(len(cells) - len(records), failed, args.command_line)
        _tell_places(args.out)
    return SOME_FAILED if failed else OK


def _submit(cells: Sequence[Cell], args: argparse.Namespace) -> int:
    """Submit jobs that run what is left of the cells, and say what comes next."""
    from benchmarks import schedule
    from benchmarks.executor import DEFAULT_JOBS, SUBMIT_OPTIONS, submit, time_limit, without
    from benchmarks.records import logs_folder

    if "WORLD_SIZE" in os.environ:
        raise CommandError("--executor submits from one process. Start it without a launcher.")
    if args.max_cells is not None or args.fail_fast:
        raise CommandError("--max-cells and --fail-fast are of one process, and jobs are several. Leave them out.")
    planned = schedule.plan(cells, args.out)
    left = sum(row.state in ("to do", "failed") for row in planned.rows)
    if not left:
        say("Nothing is left to do.")
        return OK
    jobs = min(left, args.array or DEFAULT_JOBS)
    minutes = args.minutes or time_limit(planned, jobs, args.timeout)
    words, logs = without(args.words, SUBMIT_OPTIONS), logs_folder(args.out, cells[0].suite) / "jobs"
    ids = submit(words, cells[0].suite, args.executor, jobs, minutes, dict(args.sbatch), logs.resolve())
    say(f"Submitted {len(ids)} job{'' if len(ids) == 1 else 's'} for {counted(left)}: {', '.join(ids)}")
    known = "by what cells like these took" if planned.expected_seconds else "nothing was measured yet"
    say(f"time limit  {duration(60 * minutes)} ({'--minutes' if args.minutes else known}); then requeued, and goes on")
    say(f"logs        {logs}")
    status = [DISTRIBUTION, "status", args.suite, "--out", str(args.out)]
    say(f"next        {shlex.join(status)}")
    return OK


def _tell_failed(failed: Sequence[Record], args: argparse.Namespace) -> None:
    """Say how to run what failed alone, of the first few."""
    from benchmarks.console import TOLD_FAILED
    from benchmarks.failures import alone

    for record in failed[:TOLD_FAILED]:
        say(f"failed: {record.reason}\n        alone: {alone(record, args.suite, args.out)}")


def _tell_rest(left: int, failed: int, command_line: str) -> None:
    if failed:
        say(f"Cells that failed: {failed}. The same command tries them again.")
    if left:
        say(f"Cells still to do: {left}. `{command_line}` goes on with them.")


def _tell_places(out: Path) -> None:
    from benchmarks import tracking

    say(f"records  {out}")
    say(f"MLflow   {tracking.store_location(out)}")
    say(f"         open with: {tracking.ui_command(out)}")
    try:
        page = build_site(out, out / "site")
    except (CommandError, OSError) as error:
        warn(f"the leaderboard page was not made: {message_of(error)}")
    else:
        say(f"site     {page}")
        say(f"         open with: {open_command(page)}")


def open_command(page: Path) -> str:
    """Return what opens a page in a browser."""
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    return f"{opener if shutil.which(opener) else 'python -m webbrowser'} {page.resolve().as_uri()}"


def build_site(results: Path, site: Path) -> Path:
    """Write the site of a results folder, and return its first page."""
    # The command line is where the parts meet: by name, because no module here may depend on the leaderboard.
    build: Any = importlib.import_module("leaderboard.build")
    try:
        page: Path = build.build_site(results, site)
    except build.BoardError as error:
        raise CommandError(str(error)) from error
    return page


def plan(args: argparse.Namespace) -> int:
    """Show what `run` would do."""
    cells = _cells(args)
    from benchmarks import console, schedule

    planned = schedule.plan(cells, args.out)
    table: list[list[str]] = []
    told: set[str | None] = {None}
    for row in planned.rows:
        cell = row.cell
        # Where a data set is missing, every cell has the same long reason.
        reason = "" if row.reason is None else "as above" if row.reason in told else row.reason
        told.add(row.reason)
        seed = "" if cell.seed is None else str(cell.seed)
        seconds = "" if row.expected_seconds is None else duration(row.expected_seconds)
        table.append([cell.model, cell.bits, method_name(cell), seed, row.state, seconds, reason])
    console.print_table(["model", "bits", "method", "seed>", "state", "expected>", "reason"], table)
    states = [row.state for row in planned.rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "to do", "skipped", "failed"))
    expected = planned.expected_seconds
    time = "unknown before the first run" if expected is None else duration(expected)
    say(f"\n{counted(len(states))}: {counts}. Expected time: {time}.")
    if args.workers is not None:
        shared = planned.makespan(args.workers)
        time = "unknown before the first run" if shared is None else duration(shared)
        say(f"By {args.workers} processes, each with cells of its own, longest first: {time}.")
    return OK


def status(args: argparse.Namespace) -> int:
    """Show how a suite stands, once or again and again until no cell is running or left."""
    cells = _cells(args)
    from benchmarks import console
    from benchmarks.failures import alone
    from benchmarks.status import Observer, to_json

    observer = Observer(cells, args.out)

    def repeat(cell: Cell) -> str:
        return alone(cell, args.suite, args.out)

    def print_json(now: Status) -> None:
        say(to_json(now, repeat))

    as_json = args.format == "json"
    if not args.watch:
        now = observer.look(time.time())
        if as_json:
            print_json(now)
        else:
            console.print_status(now, repeat)
        return OK
    with nullcontext(print_json) if as_json else console.watching(repeat) as show:
        while True:
            begun = time.monotonic()
            now = observer.look(time.time())
            show(now)
            if now.is_finished:
                return OK
            # Where a look takes long, as at 100,000 records on a slow disk, most of the time goes by between two.
            time.sleep(max(WATCH_SECONDS, 4 * (time.monotonic() - begun)))


def validate(args: argparse.Namespace) -> int:
    """Check a suite's names and the files that its cells need."""
    from benchmarks.suite import cells_of, find_suite, load_suite

    path = find_suite(args.suite)
    cells = cells_of(load_suite(path))
    faults = dict.fromkeys(cell.skip_reason for cell in cells if cell.skip_reason is not None)
    if faults:
        blocked = sum(cell.skip_reason is not None for cell in cells)
        reasons = " ".join(reason if reason.endswith(".") else f"{reason}." for reason in faults)
        raise CommandError(f"{path}: {blocked} of {counted(len(cells))} cannot run. {reasons}")
    print(f"{path}: good, {counted(len(cells))}.")
    for name, values in (
        ("task", [cell.task for cell in cells]),
        ("models", [cell.model for cell in cells]),
        ("bits", [cell.bits for cell in cells]),
        ("protocol", [cell.protocol for cell in cells]),
        ("methods", [method_name(cell) for cell in cells]),
        ("seeds", [str(cell.seed) for cell in cells if cell.seed is not None]),
    ):
        print(f"  {name:<9} {', '.join(dict.fromkeys(values)) or 'none needed'}")
    print("Every name is known; data and checkpoints are here and their hashes fit.")
    return OK


def tune(args: argparse.Namespace) -> int:
    """Tune the learning rates of a suite's training methods on search-validation images, and print them."""
    cells = [cell for cell in _cells(args) if cell.mode == "qat"]
    if not cells:
        raise CommandError(f"{args.suite}: no cell of mode qat is chosen, and only training has rates to tune.")
    missing = next((cell.skip_reason for cell in cells if cell.skip_reason), None)
    if missing:
        raise CommandError(f"{args.suite}: {missing}")
    from benchmarks.launch import join

    processes = join()
    if processes.world > 1:
        raise CommandError("tune runs in one process. Start it without `accelerate launch`.")
    from benchmarks.parallel import Sharing

    Sharing(processes).check(cells)
    check_writable(args.out, "--out")
    import torch

    from benchmarks import console
    from benchmarks.tuned_rates import snippet
    from benchmarks.tuned_rates import tune as tuned_of

    with console.reporting() as report:
        tuned = tuned_of(cells, args.out, args.trials, torch.device(processes.device()), report)
    places = ", ".join(dict.fromkeys(f"{cell.model} {cell.bits}" for cell in cells))
    say(f"\nMean score on search-validation over {places}; {args.trials} trials of each method and bit-width.\n")
    console.print_table(
        ["method", "bits", "as it was>", "best>", "in trial>", "rates"],
        [
            [
                one.method,
                one.bits,
                f"{one.trials[0].score:.2f}",
                f"{one.best.score:.2f}",
                str(one.trials.index(one.best) + 1),
                ", ".join(f"{name} {rate:g}" for name, rate in one.best.values.items()),
            ]
            for one in tuned
        ],
    )
    say(
        f"\nTo take them over, put this under `qat:` in a copy of the suite, and raise its version:\n\n{snippet(tuned)}"
    )
    return OK


def list_names(args: argparse.Namespace) -> int:
    """List names of one kind, each with a line on what it is."""
    from benchmarks.listing import described

    lines = described(args.kind)
    if args.format == "json":
        print(json.dumps([{"name": name, "description": text} for name, text in lines], indent=1))
        return OK
    from benchmarks import console

    console.print_table(["name", "what it is"], lines)
    return OK


def results(args: argparse.Namespace) -> int:
    """Print records: for scripts as JSON or CSV, for people also how the methods compare."""
    from benchmarks import console
    from benchmarks.results import compare, load, to_csv, to_json

    records, faults = load(args.out, args.suite)
    for fault in faults:
        warn(fault)
    if args.format == "json":
        print(to_json(records))
    elif args.format == "csv":
        print(to_csv(records), end="")
    elif not records:
        print(f"No records in '{args.out}'. Run a suite first: `dqss-bench run quickstart`.")
    else:
        console.print_table(
            ["suite", "model", "bits", "method", "seed>", "status", "score>", "seconds>", "reason"],
            [_short_row(record) for record in records],
        )
        say()
        console.print_comparisons(compare(records))
    return OK


def merge(args: argparse.Namespace) -> int:
    """Bring the records of several output folders together in one."""
    from benchmarks.merge import merge as merged_of

    merged = merged_of(args.folders, args.out, warn)
    worse = merged.replaced + merged.left
    say(
        f"{args.out}: {merged.copied} new, {merged.already} there already, {worse} times the better of two of a "
        f"cell ({merged.twice} times both good: the earlier), {merged.bad} bad and left out."
    )
    say(f"The next run brings them to MLflow; without one: `{DISTRIBUTION} sync --out {shlex.quote(str(args.out))}`.")
    return SOME_FAILED if merged.bad else OK


def _short_row(record: Record) -> Sequence[str]:
    return (
        record.suite,
        record.model,
        record.bits,
        method_name(record),
        "" if record.seed is None else str(record.seed),
        record.status,
        "" if record.score is None else f"{record.score:.2f}",
        "" if record.search_seconds is None else f"{record.search_seconds:.1f}",
        record.reason or "",
    )


def regret(args: argparse.Namespace) -> int:
    """Score searches by their distance from the optimum of a table of all strategies."""
    from benchmarks.loss_table import SHIPPED, read_table
    from benchmarks.suite import parse_seeds

    table = read_table(args.table or SHIPPED)
    from benchmarks import console, regret

    for name in args.search:
        if name not in regret.SCORED:
            raise CommandError(f"--search: '{name}' is not scored. {did_you_mean(name, regret.SCORED)}")
    problem = regret.tabled_problem(table)
    seeds = parse_seeds(args.seeds)
    scores = [regret.score(name, table, problem, seeds) for name in args.search or regret.SCORED]
    if args.format == "json":
        print(regret.to_json(table, scores))
        return OK
    say(regret.described(table))
    say("Means over seeds; worst: the greatest regret; better: the share of strategies with a lower loss.\n")
    console.print_table(regret.COLUMNS, regret.rows(scores))
    return OK
