import errno
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy
import pytest
import torch
from mlflow.exceptions import MlflowException
from torch import nn

import dqss
from benchmarks.checkpoints import find_checkpoint
from benchmarks.datasets import FetchError, MissingDataError
from benchmarks.failures import POLICIES, Kind, Policy, TimeLimitError, kind_of, kind_of_exit, kind_of_text
from benchmarks.launch import GoneError
from benchmarks.records import Record

PETABYTE = 10**15


def fill_a_disk():
    with open("/dev/full", "w") as file:
        file.write("x" * 10**5)


def fill_a_database():
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA max_page_count = 1")
        database.execute("CREATE TABLE t (x)")
        database.execute("CREATE TABLE u (x)")


def write_to_a_readonly_database():
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA query_only = 1")
        database.execute("CREATE TABLE t (x)")


def train_with(loss):
    network = nn.Sequential(nn.Linear(2, 2)).eval()
    batches = [(torch.ones(2, 2), torch.zeros(2, 2))]
    dqss.train_qat(
        network,
        lambda epoch: iter(batches),
        loss,
        [torch.ones(2, 2)],
        dqss.Schedule(steps=1),
        bits="W4A4",
        search="uniform",
        weight_quantizers=("lsq",),
        activation_quantizers=("lsq",),
    )


def wait_for_a_slow_child():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.01, check=False)


def overflow():
    with numpy.errstate(over="raise"):
        numpy.float32(3e38) * numpy.float32(10)


def raised_by(act) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is what the tests are about
        act()
    return caught.value


def raises(error):
    def act():
        raise error

    return act


ACTS = {
    "storage": [
        fill_a_disk,
        fill_a_database,
        write_to_a_readonly_database,
        raises(OSError(errno.EROFS, "Read-only file system", "/mnt/x")),
        raises(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")),
    ],
    "out of memory": [
        lambda: bytearray(PETABYTE * 1000),
        lambda: numpy.empty(PETABYTE),
        lambda: torch.empty(PETABYTE),
        raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")),
        raises(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
    "diverged": [
        lambda: train_with(lambda outputs, targets: outputs.sum() * float("nan")),
        lambda: train_with(lambda outputs, targets: outputs.sum() * 0 - float("inf")),
        lambda: Record.model_validate({"score": float("nan")}),
        overflow,
    ],
    "timeout": [wait_for_a_slow_child, raises(TimeLimitError("cell: 10 min are over."))],
    "missing data": [
        lambda: find_checkpoint("no-such-model", "fashion-mnist"),
        raises(MissingDataError("no data set.")),
    ],
    "infrastructure": [
        lambda: Path("/nowhere/at/all").read_text(),
        raises(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")),
        raises(TimeoutError("timed out")),
        raises(sqlite3.OperationalError("database is locked")),
        raises(torch.distributed.DistNetworkError("The client socket has timed out")),
        raises(RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:5000")),
        raises(GoneError("process 0 of 2: another one has ended.")),
        raises(FetchError("no source gave it.")),
        raises(MlflowException("API request to http://localhost failed")),
    ],
    "bug": [
        lambda: {}["weight"],
        lambda: train_with(lambda outputs, targets: outputs),
        lambda: torch.ones(2) @ torch.ones(3),
        raises(ValueError("loss: give one.")),
    ],
}
CASES = [(kind, act) for kind, acts in ACTS.items() for act in acts]


@pytest.mark.parametrize(("kind", "act"), CASES)
def test_what_a_cell_raises_is_told_by_its_kind_and_so_is_the_reason_in_its_record(kind, act):
    error = raised_by(act)
    assert kind_of(error) == kind
    if type(error).__name__ not in ("_ArrayMemoryError", "DistNetworkError"):
        reason = f"{type(error).__name__}: {error}"
        assert kind_of_text(reason) == kind_of_text(f"process 1: {reason}") == kind


def test_every_kind_has_its_policy():
    assert set(POLICIES) == set(ACTS) == set(Kind.__args__)


RAISERS = """
def save():
    try:
        with open("/dev/full", "w") as file:
            file.write("x" * 10**5)
    except OSError as error:
        raise ValueError("the snapshot cannot be written") from error

def look():
    try:
        open("/nowhere/at/all")
    except OSError:
        return {}["cache"]
"""


@pytest.mark.parametrize(("name", "kind"), [("save", "storage"), ("look", "bug")])
def test_what_an_error_was_raised_from_counts_and_what_was_handled_meanwhile_does_not(name, kind):
    functions = {}
    exec(RAISERS, functions)
    assert kind_of(raised_by(functions[name])) == kind
    command = [sys.executable, "-c", f"{RAISERS}\n{name}()"]
    assert kind_of_text(subprocess.run(command, capture_output=True, text=True, check=False).stderr) == kind


def test_a_folder_of_results_that_refuses_writing_stops_a_run_and_another_file_does_not(tmp_path):
    def refused(path):
        return PermissionError(errno.EACCES, "Permission denied", str(path))

    assert kind_of(refused(tmp_path / "suite" / "training" / "x.pt"), tmp_path) == "storage"
    assert kind_of(refused(tmp_path), tmp_path) == "storage"
    assert kind_of(refused(tmp_path.parent / "data"), tmp_path) == "infrastructure"
    assert kind_of(refused(tmp_path / "x"), None) == "infrastructure"


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("import os; os.kill(os.getpid(), 9)", "out of memory"),
        ("import os; os.kill(os.getpid(), 15)", "infrastructure"),
        ("import os; os.kill(os.getpid(), 11)", "bug"),
        ("import os; os.abort()", "bug"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 9))\nwhile True: pass", "timeout"),
        ("raise KeyError", "bug"),
    ],
)
@pytest.mark.parametrize("shell", [False, True])
def test_the_end_of_a_child_tells_its_kind_also_through_a_shell(program, kind, shell):
    command = [sys.executable, "-c", program]
    if shell:
        command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    ended = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    assert (ended.returncode < 0) is (not shell and program != "raise KeyError")
    assert kind_of_exit(ended.returncode) == kind


def test_a_child_that_meets_its_memory_limit_is_told_by_its_traceback():
    program = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nbytearray(2**31)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert kind_of_text(ended.stderr) == "out of memory"


def test_a_good_end_is_no_failure():
    with pytest.raises(ValueError, match=r"^code: 0 is a process that ended well"):
        kind_of_exit(0)


def test_in_a_log_the_last_exception_counts_and_without_one_its_words_do():
    log = "OSError: [Errno 5] Input/output error\nretrying\nTraceback (most recent call last):\nKeyError: 'x'\n"
    assert kind_of_text(log) == "bug"
    assert kind_of_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.") == "out of memory"
    assert kind_of_text("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2025-01-01 DUE TO TIME LIMIT ***") == "timeout"
    assert kind_of_text("") == "bug"


def test_pauses_grow():
    assert [Policy(4, pause=5.0, growth=2.0).pause_after(failures) for failures in (1, 2, 3, 4)] == [5, 10, 20, 40]
