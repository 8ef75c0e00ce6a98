import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cli, commands, console, scan
from benchmarks.claims import STALE_SECONDS
from benchmarks.failures import alone, kind_of_exit, kind_of_text
from benchmarks.records import MetricFacts, Record, claims_folder, record_path, write_record
from benchmarks.runner import _how_it_ended
from benchmarks.status import Counts, Observer
from benchmarks.suite import Inventory, Lookup, cells_of, find_suite, load_suite, parse_only, parse_seeds, select

ROOT = Path(cli.__file__).parents[1]
SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4]
protocol: [all-layers, per-channel]
seeds: [0, 1]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform, dqss]
"""
WORKER = """\
import sys
from pathlib import Path
from benchmarks.claims import Claims

claim = Claims(Path(sys.argv[1])).claim(sys.argv[2])
print("claimed", flush=True)
sys.stdin.read()
if sys.argv[3] == "release":
    claim.release()
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def cells(suite):
    return cells_of(load_suite(suite))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def record_of(cell, **changes) -> Record:
    fields = {
        "status": "ok",
        "metric": MetricFacts(name="top-1", unit="%", difference_unit="points"),
        "score": 90.0,
        "search_seconds": 8.0,
        "evaluation_seconds": 2.0,
    }
    if changes.get("status", "ok") != "ok":
        fields = {}
    names = (
        "key",
        "definition",
        "suite",
        "suite_version",
        "task",
        "model",
        "bits",
        "mode",
        "protocol",
        "method",
        "seed",
    )
    known = {name: getattr(cell, name) for name in names}
    return Record(**known, started="2030-01-02T03:04:05+00:00", **{**fields, **changes})


def fail(out, cell, reason):
    write_record(out, record_of(cell, status="failed", reason=reason))


def begin(out, cell, at_end="release") -> subprocess.Popen[str]:
    """Let another process claim a cell; it holds it until its standard input is closed."""
    command = [sys.executable, "-c", WORKER, str(claims_folder(out, "tiny")), cell.key, at_end]
    worker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "claimed\n"
    return worker


def begin_elsewhere(out, cell, since, renewed, host="node7", process=17):
    """Make a claim as a process of another machine makes it."""
    folder = claims_folder(out, "tiny")
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{'0' * 12}-{process}-4711"
    path = folder / cell.key
    path.write_text(json.dumps({"host": host, "owner": owner, "token": f"t{process}", "since": since}))
    os.utime(path, (renewed, renewed))


def shown(now):
    console.print_status(now, lambda cell: f"repeat {cell.method}")


NOON = 1893499200.0
"""2030-01-01T12:00:00Z"""


def test_each_cell_is_counted_once_and_a_folder_that_is_not_there_holds_nothing(out, cells):
    assert Observer(cells, out).look(NOON).counts == Counts(0, 0, 0, 0, len(cells))
    write_record(out, record_of(cells[0]))
    write_record(out, record_of(cells[1]))
    fail(out, cells[2], "KeyError: 'x'")
    fail(out, cells[3], "OSError: away")
    # Begun again after it failed, begun, and begun by one that is just about to end it.
    for cell in (cells[3], cells[4], cells[1]):
        begin_elsewhere(out, cell, "2030-01-01T11:59:50+00:00", NOON - 5)
    now = Observer(cells, out).look(NOON)
    assert len(cells) == 8
    assert now.counts == Counts(done=2, running=2, failed=1, skipped=0, left=3)
    assert [one.cell for one in now.begun] == [cells[3], cells[4]]
    assert [one.cell for one in now.failed] == [cells[2]]
    assert not now.is_finished


def test_who_runs_a_cell_is_told_until_the_process_ends(out, cells):
    before = time.time() - 1
    worker = begin(out, cells[0])
    observer = Observer(cells, out)
    (begun,) = observer.look(time.time()).begun
    assert (begun.cell, begun.state, begun.holder.process) == (cells[0], "running", worker.pid)
    assert 0 <= begun.seconds <= time.time() - before
    worker.communicate("")
    assert observer.look(time.time()).begun == []


def test_the_cell_of_a_killed_process_is_lost_and_left(out, cells):
    worker = begin(out, cells[0])
    observer = Observer(cells, out)
    assert observer.look(time.time()).counts.running == 1
    worker.kill()
    worker.communicate()
    now = observer.look(time.time())
    assert [(one.cell, one.state) for one in now.begun] == [(cells[0], "ended")]
    assert now.counts == Counts(0, 0, 0, 0, len(cells))
    assert now.running == []
    # Nothing was decided here: a run takes it over.
    assert list(claims_folder(out, "tiny").iterdir()) == [claims_folder(out, "tiny") / cells[0].key]


@pytest.mark.parametrize(("silence", "state"), [(STALE_SECONDS - 1, "running"), (STALE_SECONDS + 1, "silent")])
def test_a_process_elsewhere_that_renews_its_claim_no_more_is_lost(out, cells, silence, state):
    begin_elsewhere(out, cells[0], "2030-01-01T11:00:00+00:00", NOON - silence)
    now = Observer(cells, out).look(NOON)
    assert [(one.state, one.seconds, one.silent) for one in now.begun] == [(state, 3600.0, silence)]
    assert (now.counts.running, now.counts.left) == ((1, 7) if state == "running" else (0, 8))


@pytest.mark.parametrize("since", [None, "yesterday", "2030-01-01T13:00:00+00:00"])
def test_a_claim_that_says_no_time_or_one_to_come_is_shown(out, cells, since, capsys):
    begin_elsewhere(out, cells[0], since, NOON + 60)
    now = Observer(cells, out).look(NOON)
    assert now.begun[0].seconds == (0.0 if since and "T" in since else None)
    assert (now.begun[0].state, now.begun[0].silent) == ("running", 0.0)
    shown(now)
    assert "process 17 on node7" in capsys.readouterr().out


def test_the_time_left_is_that_of_the_processes_that_run(out, cells):
    """Measured: 10 s a cell. Of 7 left two run, with 4 s and 0 s to go: the other five end 20, 24 and 30 s from now."""
    write_record(out, record_of(cells[0]))
    observer = Observer(cells, out)
    assert observer.look(NOON).expected_seconds is None
    begin_elsewhere(out, cells[1], "2030-01-01T11:59:54+00:00", NOON - 1, process=1)
    begin_elsewhere(out, cells[2], "2030-01-01T11:59:00+00:00", NOON - 1, process=2)
    # One takes 0, 10, 20, 30 s; the other 4, 14, 24 s.
    assert observer.look(NOON).expected_seconds == 30.0
    begin_elsewhere(out, cells[2], "2030-01-01T11:59:00+00:00", NOON - STALE_SECONDS - 1, process=2)
    assert observer.look(NOON).expected_seconds == 4 + 6 * 10


def test_failures_stand_by_kind_with_the_command_that_runs_one_alone(out, cells, suite, capsys):
    fail(out, cells[0], "OutOfMemoryError: CUDA out of memory.\nTried to allocate")
    fail(out, cells[2], "KeyError: 'x'")
    fail(out, cells[3], "the process of the cell was ended by SIGKILL, as the kernel does where memory runs out.")
    assert cli.main(["status", str(suite), "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny, 8 cells: 0 done, 0 running, 3 failed, 0 skipped, 5 left. No process runs any."
    assert [line for line in lines if line.startswith("failed")] == [
        "failed, out of memory: 2 cells",
        "failed, bug: 1 cell",
    ]
    assert "resnet8 W4A4 uniform-minmax: OutOfMemoryError: CUDA out of memory. Tried to allocate" in lines
    told = [line.removeprefix("  alone: ") for line in lines if line.startswith("  alone: ")]
    assert told == [alone(cell, str(suite), out) for cell in (cells[0], cells[3], cells[2])]


def test_the_command_that_runs_a_cell_alone_chooses_it_and_no_other(cells, suite, out):
    for cell in cells:
        for of in (cell, record_of(cell)):
            args = cli.build_parser().parse_args(alone(of, str(suite), out).split()[1:])
            seeds = None if args.seeds is None else parse_seeds(args.seeds)
            chosen = select(cells_of(load_suite(find_suite(args.suite)), seeds), parse_only(",".join(args.only)))
            assert [(each.key, args.out) for each in chosen] == [(cell.key, out)]


@pytest.mark.parametrize("code", [-9, -15, -11, 3])
def test_how_the_process_of_a_cell_ended_tells_its_kind_from_the_record_too(code):
    reason, kind = _how_it_ended(SimpleNamespace(exitcode=code))
    assert kind_of_text(reason) == kind == kind_of_exit(code)


def test_json_says_all_of_it(out, cells, suite, capsys, monkeypatch):
    monkeypatch.setattr(commands.time, "time", lambda: NOON)
    write_record(out, record_of(cells[0]))
    fail(out, cells[2], "KeyError: 'x'")
    begin_elsewhere(out, cells[3], "2030-01-01T11:59:57+00:00", NOON - 2)
    assert cli.main(["status", str(suite), "-o", str(out), "--format", "json", "--only", "protocol=all-layers"]) == 0
    common = {"model": "resnet8", "bits": "W4A4", "mode": "ptq", "method": "dqss", "protocol": "all-layers"}
    assert json.loads(capsys.readouterr().out) == {
        "suite": "tiny",
        "cells": 4,
        "done": 1,
        "running": 1,
        "failed": 1,
        "skipped": 0,
        "left": 1,
        "expected_seconds": 17.0,
        "begun": [
            {
                "key": cells[3].key,
                **common,
                "seed": 1,
                "state": "running",
                "host": "node7",
                "process": 17,
                "since": "2030-01-01T11:59:57+00:00",
                "seconds": 3.0,
                "silent_seconds": 2.0,
                "expected_seconds": 10.0,
            }
        ],
        "failures": [
            {
                "key": cells[2].key,
                **common,
                "seed": 0,
                "kind": "bug",
                "reason": "KeyError: 'x'",
                "command": f"dqss-bench run {suite} --out {out} --only "
                "model=resnet8,bits=W4A4,mode=ptq,method=dqss,protocol=all-layers --seeds 0",
            }
        ],
        "skipped_because": {},
    }


def test_cells_that_cannot_run_here_are_skipped_with_the_reason(out, cells, capsys):
    nothing = Inventory({("fashion-mnist",): Lookup(None, "no data set. Get it.")})
    lacking = [replace(cell, inventory=nothing) for cell in cells]
    now = Observer(lacking, out).look(NOON)
    assert (now.counts, now.is_finished) == (Counts(0, 0, 0, 8, 0), True)
    shown(now)
    assert capsys.readouterr().out.splitlines()[-2:] == ["skipped: 8 cells", "no data set. Get it."]


class Script:
    """Things that happen one after the other, each while a watch waits."""

    def __init__(self, monkeypatch, *acts):
        self.acts, self.slept = list(acts), []
        monkeypatch.setattr(commands.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        act = self.acts.pop(0)
        act()


def test_a_watch_without_a_terminal_prints_a_line_for_each_change_and_ends_when_all_is_done(
    out, cells, suite, capsys, monkeypatch
):
    only = ["--only", "protocol=all-layers,method=uniform"]
    worker = begin(out, cells[0])

    def end_one():
        write_record(out, record_of(cells[0]))
        worker.communicate("")

    script = Script(monkeypatch, lambda: None, end_one, lambda: None, lambda: fail(out, cells[1], "OSError: away"))
    assert cli.main(["status", str(suite), "-o", str(out), "--watch", *only]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny, 2 cells: 0 done, 1 running, 0 failed, 0 skipped, 1 left. By 1 process: time left unknown.",
        "tiny, 2 cells: 1 done, 0 running, 0 failed, 0 skipped, 1 left. No process runs any.",
        "tiny, 2 cells: 1 done, 0 running, 1 failed, 0 skipped, 0 left.",
    ]
    assert not script.acts
    assert min(script.slept) >= commands.WATCH_SECONDS


def test_a_watch_in_json_prints_an_object_per_look(out, cells, suite, capsys, monkeypatch):
    Script(monkeypatch, lambda: None, lambda: write_record(out, record_of(cells[0])))
    chosen = ["--only", "protocol=all-layers,method=uniform-minmax", "--format", "json"]
    assert cli.main(["status", str(suite), "-o", str(out), "--watch", *chosen]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["done"], one["left"]) for one in told] == [(0, 1), (0, 1), (1, 0)]


def test_ctrl_c_ends_a_watch(out, suite, capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    Script(monkeypatch, interrupt)
    assert cli.main(["status", str(suite), "-o", str(out), "--watch"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_watch_on_a_terminal_redraws(out, cells, suite, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(console, "sys", SimpleNamespace(stdout=terminal))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    begin_elsewhere(out, cells[0], "2030-01-01T11:59:54+00:00", NOON - 1)
    monkeypatch.setattr(commands.time, "time", lambda: NOON)

    def end():
        write_record(out, record_of(cells[0]))
        (claims_folder(out, "tiny") / cells[0].key).unlink()

    Script(monkeypatch, end)
    chosen = ["--only", "protocol=all-layers,method=uniform-minmax"]
    assert cli.main(["status", str(suite), "-o", str(out), "--watch", *chosen]) == 0
    first, redrawn = terminal.getvalue().split("1 done", 1)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", first)
    assert "0 done, 1 running" in text
    assert re.search(r"resnet8 W4A4 uniform-minmax +process 17 on node7 +20\d\d-\d\d-\d\d \d\d:\d\d:54 +6\.0 s", text)
    # It goes up over what it drew before.
    assert "\x1b[1A" in first
    assert "node7" not in redrawn


def test_a_look_reads_only_what_has_changed(out, cells, monkeypatch):
    for cell in cells[:4]:
        write_record(out, record_of(cell))
    fail(out, cells[4], "OSError: away")
    read, opened = [], scan.opened
    monkeypatch.setattr(scan, "opened", lambda content: read.append(content) or opened(content))
    observer = Observer(cells, out)
    observer.look(NOON)
    assert len(read) == 5
    assert observer.look(NOON).counts == Counts(4, 0, 1, 0, 3)
    assert len(read) == 5
    write_record(out, record_of(cells[4]))
    write_record(out, record_of(cells[5]))
    record_path(out, "tiny", cells[0].key).unlink()
    assert observer.look(NOON).counts == Counts(5, 0, 0, 0, 3)
    assert len(read) == 7
    damaged = record_path(out, "tiny", cells[1].key)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert observer.look(NOON).counts == Counts(4, 0, 0, 0, 4)
    assert len(read) == 8


def test_status_imports_nothing_heavy_and_writes_nothing(out, suite, cells):
    begin_elsewhere(out, cells[0], "2030-01-01T11:59:54+00:00", NOON - 1)
    fail(out, cells[1], "OSError: away")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    program = (
        "import sys; from benchmarks.cli import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'mlflow', 'pandas', 'accelerate', 'optuna') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "status", str(suite), "-o", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "process 17 on node7" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
