"""How processes share cells; and real trainings by the command line, in two processes and after a SIGKILL."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks
from benchmarks.engine import Accelerated
from benchmarks.launch import LaunchError, Processes
from benchmarks.parallel import Sharing
from benchmarks.records import Record, iterate_records
from benchmarks.suite import Budget, cells_of, find_suite, load_suite
from dqss.engine import Alone

SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W2A2]
protocol: academic
seeds: [3]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform]
qat:
  quantizers: {weight: [lsq, dorefa], activation: [lsq, pact]}
  training: {epochs: 1, batch_size: 16}
  methods: [uniform-lsq, dqss: {start: best-uniform}]
"""

# The command line, on 64 calibration images, 320 to train on (20 steps) and 64 to evaluate on. Each step leaves a byte.
PROGRAM = """\
import os
import sys
from datetime import timedelta

from benchmarks import cell_qat, launch
from benchmarks.cli import main
from benchmarks.tasks import fashion_mnist
from benchmarks.tasks.base import Split

TASK = fashion_mnist.FashionMnist
COUNTS = {Split.TEST: 64, Split.VALIDATION: 64, Split.FINE_TUNING: 320}
whole, ids, loss = TASK.data, TASK.ids, TASK.training_loss
steps = 0


def data(task, split):
    images, labels = whole(task, split)
    return images[: COUNTS.get(split)], labels[: COUNTS.get(split)]


def counted(task, outputs, targets):
    global steps
    steps += 1
    with open(os.environ["STEPS"], "ab") as file:
        file.write(b".")
    if os.environ.get("FAILS") == os.environ.get("RANK", "0") and steps == 7:
        raise MemoryError("no memory")
    return loss(task, outputs, targets)


TASK.data = data
TASK.ids = lambda task, split: ids(task, split)[: COUNTS.get(split)]
TASK.training_loss = counted
fashion_mnist.CALIBRATION_SIZE = 64
cell_qat.SNAPSHOT_EVERY = 3
launch.TELLING_TIMEOUT = timedelta(seconds=5)
if __name__ == "__main__":
    sys.exit(main())
"""
STEPS = 20
MEASURED = {"started", "calibration_seconds", "search_seconds", "evaluation_seconds", "peak_memory_mb"}
LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU", "MLFLOW_TRACKING_URI", "DQSS_CHECKPOINTS"}
LAUNCH = [
    str(Path(sysconfig.get_path("scripts")) / "accelerate"),
    *["launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"],
]


def cell(**budget):
    found = next(c for c in cells_of(load_suite(find_suite("classification_qat"))) if c.method == "dqss")
    return replace(found, budget=replace(Budget(2, 64, 0.0), **budget))


def sharing(world, parallel="cells", rank=0):
    return Sharing(Processes(rank, world, rank), parallel)


def test_what_the_suite_asks_for_decides_on_the_engine(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert sharing(1).engine(cell()) == Alone(1)
    assert sharing(1, "data").engine(cell(accumulation=2)) == Alone(2)
    assert sharing(2).engine(cell()) == Alone(1)
    assert sharing(2, "data").engine(cell(accumulation=2)) == Accelerated(Processes(0, 2, 0), 2)
    assert sharing(1).engine(cell(precision="bf16")) == Accelerated(Processes(0, 1, 0), 1, "bf16")


@pytest.mark.parametrize(
    ("budget", "among", "message"),
    [
        ({"zero": 2}, (1, "data"), r"zero: 2 is not allowed in 1 process\. Start more, or give 0\."),
        ({"precision": "fp16"}, (1,), r"precision: 'fp16' is not allowed on a CPU\."),
        ({"zero": 2}, (2, "data"), r"zero: 2 is not allowed with ACCELERATE_USE_CPU"),
        ({"zero": 2}, (2,), r"zero: 2 is not allowed where each of 2 processes takes cells .* `--parallel data`\."),
        ({"precision": "bf16"}, (2,), r"precision: 'bf16' is not allowed where each of 2 processes takes cells"),
        ({"batch_size": 66}, (4, "data"), r"batch_size: 66 cannot be cut into 4 \(processes\) x 1 \(accumulation\)"),
        ({"batch_size": 6, "accumulation": 3}, (4, "data"), r"batch_size: 6 cannot be cut into 4 \(processes\) x 3"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_runs(monkeypatch, budget, among, message):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("benchmarks.engine._installed", lambda name: True)
    with pytest.raises(LaunchError, match=f"suite classification_qat: qat: training: {message}"):
        sharing(*among).check([cell(**budget)])


def test_a_launch_that_no_training_can_use_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(LaunchError, match="--use_deepspeed is not allowed"):
        sharing(2, "data").check([cell()])
    sharing(2).check([cell()])


def test_a_usual_budget_asks_for_nothing():
    sharing(1).check([cell(), cell(accumulation=2)])
    sharing(2).check([cell(batch_size=65)])
    sharing(2, "data").check([cell(accumulation=2)])


class Runs:
    """Runs of the small suite, each by processes of their own."""

    def __init__(self, folder):
        self.folder, self.suite, self.program = folder, folder / "tiny.yaml", folder / "program.py"
        self.suite.write_text(SUITE)
        self.program.write_text(PROGRAM)

    def start(self, name, *options, launcher=(sys.executable,), **variables):
        given = {key: value for key, value in os.environ.items() if key not in LAUNCHED}
        path = str(Path(benchmarks.__file__).parents[1])
        return subprocess.Popen(
            [*launcher, str(self.program), "run", str(self.suite), "--out", str(self.folder / name), *options],
            env={
                **given,
                **{"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HOME": str(self.folder)},
                **{"STEPS": str(self.folder / f"{name}.steps"), **variables},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, name, *options, **more):
        process = self.start(name, *options, **more)
        out, error = process.communicate(timeout=300)
        return process.returncode, out, error

    def steps(self, name):
        path = self.folder / f"{name}.steps"
        return path.stat().st_size if path.exists() else 0

    def records(self, name):
        found = list(iterate_records(self.folder / name))
        assert all(isinstance(record, Record) for record in found), found
        return {record.method: record for record in found}

    def snapshots(self, name):
        return list((self.folder / name / "tiny").glob("training/*/*.pt"))


def results(records):
    return {name: record.model_dump(exclude=MEASURED) for name, record in records.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = Runs(tmp_path_factory.mktemp("runs"))
    code, _, error = made.run("alone", "--parallel", "data")
    assert code == 0, error
    return made


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGKILL are POSIX")
def test_a_training_killed_in_its_midst_goes_on_to_the_record_of_an_unbroken_one(runs):
    name, only = "killed", ("--only", "mode=qat,method=dqss")
    process = runs.start(name, *only)
    try:
        deadline = time.monotonic() + 120
        while runs.steps(name) < 14:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = runs.steps(name)
    assert before < STEPS, "it was killed too late"
    assert runs.records(name) == {}
    assert len(runs.snapshots(name)) == 1

    code, _, error = runs.run(name, *only)
    assert (code, error) == (0, "")
    # From a snapshot, of every third step.
    left = runs.steps(name) - before
    assert (STEPS - left) % 3 == 0
    assert left <= STEPS - 12
    assert results(runs.records(name)) == {"dqss": results(runs.records("alone"))["dqss"]}
    assert not (runs.folder / name / "tiny" / "training").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its fast collective library is not built for Windows")
def test_two_processes_train_a_cell_as_one_does(runs):
    code, out, error = runs.run("two", "--parallel", "data", launcher=LAUNCH, ACCELERATE_USE_CPU="true")
    assert code == 0, error
    alone, found = runs.records("alone"), runs.records("two")
    assert {name: (r.processes, r.parallel) for name, r in found.items()} == {
        "uniform-minmax": (2, "cells"),
        "uniform-mse": (2, "cells"),
        "uniform-lsq": (2, "data"),
        "dqss": (2, "data"),
    }
    assert {(r.processes, r.parallel) for r in alone.values()} == {(1, None)}
    # Both took each step, and the losses are of the whole batch; the order of sums tells in the end.
    assert runs.steps("two") == 2 * runs.steps("alone")
    one, two = (of["uniform-lsq"].curves["loss"] for of in (alone, found))
    assert two[:5] == pytest.approx(one[:5], rel=1e-5)
    assert two == pytest.approx(one, rel=0.05)
    # Progress is told once: of all but the cell that the other process took.
    assert len(re.findall(r"^\[", out, re.MULTILINE)) == 3
    assert not (runs.folder / "two" / "tiny" / "training").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its fast collective library is not built for Windows")
def test_a_process_that_fails_alone_ends_the_run_within_the_timeout_and_the_next_one_goes_on(runs):
    only = ("--only", "mode=qat,method=uniform-lsq", "--parallel", "data")
    code, _, error = runs.run("lone", *only, launcher=LAUNCH, ACCELERATE_USE_CPU="true", FAILS="1")
    assert code != 0
    assert re.search(r"dqss-bench: process 1 of 2 has waited 0\.08\d* minutes for the others", error)
    assert {name: (r.status, r.reason) for name, r in runs.records("lone").items()} == {
        "uniform-lsq": ("failed", "MemoryError: no memory")
    }
    before = runs.steps("lone")
    code, _, error = runs.run("lone", *only, launcher=LAUNCH, ACCELERATE_USE_CPU="true")
    assert code == 0, error
    assert runs.records("lone")["uniform-lsq"].status == "ok"
    # Both processes, from the snapshot of the sixth step.
    assert runs.steps("lone") - before == 2 * (STEPS - 6)
