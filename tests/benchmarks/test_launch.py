import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import psutil
import pytest
from torch.distributed import HashStore

from benchmarks import commands, launch
from benchmarks.launch import LaunchError, Processes, asked_for, join

ACCELERATE = str(Path(sysconfig.get_path("scripts")) / "accelerate")


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("python /bin/accelerate launch --cpu --num_processes 2 -m benchmarks run quickstart", 2),
        ("/bin/accelerate launch --num_processes=3 --multi_gpu -m benchmarks run quickstart", 3),
        ("accelerate launch --cpu --num-processes 4 -m benchmarks run quickstart", 4),
        ("accelerate launch --num-processes=4 -m benchmarks run quickstart", 4),
        ("python -m accelerate.commands.launch --num_processes 2 -m benchmarks run quickstart", 2),
        ("/bin/accelerate-launch --num_processes 2 -m benchmarks run quickstart", 2),
        ("accelerate launch --cpu -m benchmarks run quickstart", 1),
        ("accelerate launch --num_processes many", 1),
        ("accelerate launch --num_processes", 1),
        ("accelerate config --num_processes 2", 1),
        ("srun --num_processes 2 python -m benchmarks run quickstart", 1),
        ("bash", 1),
        ("", 1),
    ],
)
def test_it_reads_how_many_processes_the_launcher_was_asked_for(command, processes):
    assert asked_for(command.split()) == processes


def test_a_process_that_nobody_launched_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join() == Processes(rank=0, world=1, local_rank=0)
    join().meet()


@pytest.mark.parametrize("given", ["abc", "", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("WORLD_SIZE", given)
    with pytest.raises(LaunchError, match=f"WORLD_SIZE: '{given}' is not a number from 1"):
        join()


@pytest.mark.parametrize("error", [psutil.AccessDenied(), psutil.NoSuchProcess(1)])
def test_a_parent_that_cannot_be_read_is_no_launcher(monkeypatch, error):
    class Hidden:
        def parent(self):
            raise error

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(launch.psutil, "Process", Hidden)
    assert join().world == 1


def test_a_launch_error_is_the_users_to_mend():
    assert LaunchError in commands.user_errors()


STORE = """\
import signal
from torch.distributed import TCPStore

store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
signal.pause()
"""
ASKS = """\
import os
import subprocess
import sys
from benchmarks.launch import GoneError, Processes

holder = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
os.environ |= {"MASTER_PORT": holder.stdout.readline().strip(), "TORCHELASTIC_USE_AGENT_STORE": "True"}
store = Processes(1, 2, 1).store()
print(store.add("next", 1))
holder.kill()
holder.wait()
try:
    store.add("next", 1)
except GoneError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals as on Linux")
def test_a_store_whose_holder_was_killed_is_told_as_gone_and_nothing_else(small_suite):
    ended = subprocess.run(
        [sys.executable, "-c", ASKS, STORE],
        capture_output=True,
        text=True,
        check=True,
        env=small_suite.environment,
    )
    assert ended.stdout.splitlines()[0] == "1"
    assert "does not answer any more. Finished cells are kept" in ended.stdout.splitlines()[1]
    assert ended.stderr == ""


@pytest.mark.slow
def test_a_launcher_that_starts_fewer_processes_than_asked_for_is_refused(small_suite, tmp_path):
    """`--cpu --num_processes 2` runs one process and says nothing of it."""
    out = tmp_path / "out"
    launcher = [ACCELERATE, "launch", "--cpu", "--num_processes", "2"]
    ended = small_suite.run(out, *launcher, HF_HOME=str(tmp_path))
    assert ended.returncode != 0
    assert re.search(
        r"dqss-bench: `accelerate launch` was asked for 2 processes and started 1 .*"
        r"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 -m benchmarks run SUITE",
        ended.stderr,
    )
    # The launcher has an exit code of its own, and names ours.
    assert "returned non-zero exit status 2." in ended.stderr
    assert ended.stdout == ""
    assert not list(out.glob("*/*.json"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its fast collective library is not built for Windows")
def test_two_processes_share_the_cells_and_find_what_one_finds(small_suite, tmp_path):
    out = tmp_path / "out"
    launcher = [ACCELERATE, "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    ended = small_suite.run(out, *launcher, ACCELERATE_USE_CPU="true", HF_HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stderr

    found, alone = small_suite.results(out), small_suite.results(small_suite.reference)
    assert {record.pop("processes") for record in found.values()} == {2}
    assert {record.pop("processes") for record in alone.values()} == {1}
    assert {record.pop("parallel") for record in found.values()} == {"cells"}
    assert {record.pop("parallel") for record in alone.values()} == {None}
    assert found == alone

    # The first process alone speaks: of its own cells as they end, and of all in the table.
    assert 0 < len(re.findall(r"^\[", ended.stdout, re.MULTILINE)) < 9
    assert ended.stdout.count("9 cells") == 1
    assert len(re.findall(r"^full precision", ended.stdout, re.MULTILINE)) == 1

    assert small_suite.tracked_keys(out) == sorted(found)


class Deaf:
    """A store whose machine was cut off: it never answers."""

    def __init__(self, answered):
        self._answered = answered

    def add(self, key, amount):
        self._answered.wait()


def test_a_store_that_does_not_answer_is_gone(monkeypatch):
    answered = threading.Event()
    store = launch.RunStore(HashStore(), patience=0.05)
    monkeypatch.setattr(store, "_store", Deaf(answered))
    with pytest.raises(launch.GoneError, match="does not answer any more"):
        store.add("next", 1)
    answered.set()


WORKER = """\
import os, signal, sys, time
from pathlib import Path

folder, what = Path(sys.argv[1]), sys.argv[2]
name = f"{os.environ['RANK']}-{os.getpid()}"
(folder / name).write_text(os.environ["OMP_NUM_THREADS"])
if what == "lost" and os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "deaf":
    time.sleep(60)
"""


@pytest.fixture
def workers(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "PROGRAM", (sys.executable, "-c", WORKER))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="signals and cores as on Linux")
@pytest.mark.parametrize(("most", "begun"), [(0, 1), (2, 3)])
def test_a_lost_process_is_replaced_as_often_as_was_said(workers, most, begun):
    """One of a process group cannot be: it would wait for the group that ended with it."""
    assert launch.start(2, [str(workers), "lost"], most) == 1
    assert len(list(workers.glob("1-*"))) == begun


@pytest.mark.skipif(sys.platform != "linux", reason="signals and cores as on Linux")
def test_processes_share_the_cores_that_this_one_may_use(monkeypatch, workers):
    monkeypatch.setattr(launch.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(launch.os, "sched_getaffinity", lambda _: {3, 5, 6, 7, 9, 11})
    assert launch.start(2, [str(workers), "share"]) == 0
    assert [path.read_text() for path in workers.iterdir()] == ["3", "3"]


def ended_by(signal_number, monkeypatch, workers):
    """Let `start` be told to end once both of its processes run, and return how it ended."""
    pause = launch.sleep

    def sleep(seconds):
        while len(list(workers.iterdir())) < 2:
            pause(seconds)
        signal.raise_signal(signal_number)

    monkeypatch.setattr(launch, "sleep", sleep)
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.05)
    # What starts the tests in the background has them ignore Ctrl-C.
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {each: signal.signal(each, handler) for each, handler in usual.items()}
    try:
        return launch.start(2, [str(workers), "deaf"])
    except SystemExit as end:
        return end.code
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="signals and cores as on Linux")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_ends_the_first_process_alone_ends_all(number, code, monkeypatch, workers):
    """Its processes do not hear of it, as they do of Ctrl-C."""
    assert ended_by(number, monkeypatch, workers) == code
    begun = [int(path.name.partition("-")[2]) for path in workers.iterdir()]
    assert len(begun) == 2
    assert not [process for process in begun if psutil.pid_exists(process)]
