import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.cell import identity, now
from benchmarks.launch import Processes
from benchmarks.parallel import Sharing
from benchmarks.records import Record
from benchmarks.runner import Child, Inline, Outcome, tail
from dqss.search.base import no_report
from tests.benchmarks.test_schedule import cell

ALONE = Sharing(Processes(0, 1, 0))


def doing(deed="nothing"):
    return replace(cell(), options={"deed": deed})


class Deeds:
    """A runner that does what is among the cell's options."""

    def __init__(self, sharing, out):
        self.sharing, self.cells = sharing, 0

    def run(self, cell, report):
        self.cells += 1
        deed = cell.options.get("deed", "nothing")
        print("running", deed, flush=True)
        report("half", 1, 2)
        if deed == "sleep":
            time.sleep(60)
        elif deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "exit":
            os._exit(7)
        elif deed == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        known = identity(cell, now(), self.sharing)
        record = Record(**known, status="ok", score=float(self.cells), measures={"pid": float(os.getpid())})
        return Outcome(record, None)

    def close(self):
        pass


@pytest.fixture
def child(tmp_path):
    made = Child(ALONE, tmp_path, tmp_path / "logs" / "0.log", 5.0, inside=Deeds)
    yield made
    made.close()


def test_cells_run_in_one_process_that_is_not_this_one_and_its_stages_are_heard(child, tmp_path):
    stages = []
    first, second = (child.run(doing(deed), lambda *stage: stages.append(stage)).record for deed in ("one", "two"))
    assert (first.score, second.score) == (1, 2)
    assert first.measures["pid"] == second.measures["pid"] != os.getpid()
    assert stages[0] == ("half", 1, 2)
    assert (tmp_path / "logs" / "0.log").read_text().split() == ["running", "one", "running", "two"]


@pytest.mark.parametrize(
    ("deed", "kind", "reason"),
    [
        (
            "kill",
            "out of memory",
            "the process of the cell was ended by SIGKILL, as the kernel does where memory runs out.",
        ),
        ("exit", "bug", "the process of the cell ended with exit code 7."),
        ("sleep", "timeout", "TimeLimitError: the cell ran longer than 5 s. Give more by --timeout."),
    ],
)
def test_a_lost_process_is_a_failed_cell_with_what_it_last_said_and_the_next_has_another(child, deed, kind, reason):
    before = child.run(doing(), no_report).record
    lost, found = child.run(doing(deed), no_report)
    assert found == kind
    assert (lost.status, lost.reason, lost.traceback) == ("failed", reason, f"running {deed}")
    assert lost.key == doing(deed).key
    after = child.run(doing(), no_report).record
    assert (after.status, after.score) == ("ok", 1)
    assert after.measures["pid"] != before.measures["pid"]


def test_an_interrupt_of_the_terminal_leaves_the_decision_to_the_parent(child):
    assert child.run(doing("interrupt"), no_report).record.status == "ok"


def test_a_child_ends_with_its_parent(tmp_path):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.benchmarks.test_runner import *
if __name__ == "__main__":
    made = Child(ALONE, Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r}), None, inside=Deeds)
    print(int(made.run(doing(), no_report).record.measures["pid"]), flush=True)
    made.run(doing("sleep"), no_report)
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid)


def test_an_error_in_a_cell_is_its_record(monkeypatch):
    def broken(cell, context, report):
        raise OSError("away")

    monkeypatch.setattr("benchmarks.cell.run_cell", broken)
    record, kind = Inline(ALONE, None).run(cell(), no_report)
    assert (record.status, record.reason, kind) == ("failed", "OSError: away", "infrastructure")
    assert "in broken" in record.traceback


def test_a_tail_is_what_was_said_since(tmp_path):
    log = tmp_path / "log"
    assert tail(log, 0) is None
    log.write_text("before\n" + "x" * 5000 + "\nlast\n")
    assert tail(log, 7).endswith("x\nlast")
    assert len(tail(log, 7)) < 4001
    assert tail(log, log.stat().st_size) is None
