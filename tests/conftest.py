"""A suite of nine quick cells, run as a user runs it: by a process of its own."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.records import Record, iterate_records

SUITE = """\
suite: small
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W4A4]
protocol: all-layers
seeds: [0, 1, 2]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform, best-uniform, random: {images: 100}, dqss: {steps: 3}]
"""

# The command line, on 64 calibration images and 128 test images.
PROGRAM = """\
import sys

from benchmarks.cli import main
from benchmarks.tasks import fashion_mnist
from benchmarks.tasks.base import Split

whole = fashion_mnist.FashionMnist.data


def data(task, split):
    images, labels = whole(task, split)
    return (images[:128], labels[:128]) if split is Split.TEST else (images, labels)


fashion_mnist.FashionMnist.data = data
fashion_mnist.CALIBRATION_SIZE = 64
if __name__ == "__main__":
    sys.exit(main())
"""

# What no two runs have in common.
MEASURED = {"started", "calibration_seconds", "search_seconds", "evaluation_seconds", "peak_memory_mb"}
LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU", "MLFLOW_TRACKING_URI", "DQSS_CHECKPOINTS"}


@dataclass(frozen=True)
class SmallSuite:
    """Nine cells of a few tenths of a second: uniform-minmax, uniform-mse, best-uniform, and three seeds of two more.

    Args:
        suite: its file.
        program: a script that takes the arguments of `dqss-bench`.
        reference: the output folder of a run that nothing disturbed.
    """

    suite: Path
    program: Path
    reference: Path

    @property
    def environment(self) -> dict[str, str]:
        """One thread, so that sums are added in one order; MLflow in the output folder."""
        given = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        return {**given, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(benchmarks.__file__).parents[1])}

    def arguments(self, out: Path) -> list[str]:
        return [str(self.program), "run", str(self.suite), "--out", str(out)]

    def run(self, out: Path, *launcher: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the suite to its end."""
        command = [sys.executable, *launcher, *self.arguments(out)]
        environment = {**self.environment, **variables}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def results(self, out: Path) -> dict[str, dict[str, Any]]:
        """Return key -> all of the record that does not differ from run to run; no record may be bad."""
        records = [record for record in iterate_records(out) if isinstance(record, Record)]
        assert len(records) == len(list((out / "small").glob("*.json")))
        return {record.key: record.model_dump(exclude=MEASURED) for record in records}

    def tracked_keys(self, out: Path) -> list[str]:
        """Return the key of each cell's MLflow run that is not deleted."""
        with closing(sqlite3.connect(out / "mlflow.db")) as database:
            rows = database.execute(
                "SELECT value FROM tags JOIN runs USING (run_uuid) "
                "WHERE key = 'dqss.key' AND lifecycle_stage = 'active'"
            )
            return sorted(key for (key,) in rows)


@pytest.fixture(scope="session")
def small_suite(tmp_path_factory: pytest.TempPathFactory) -> SmallSuite:
    folder = tmp_path_factory.mktemp("small")
    made = SmallSuite(folder / "small.yaml", folder / "program.py", folder / "reference")
    made.suite.write_text(SUITE)
    made.program.write_text(PROGRAM)
    ended = made.run(made.reference)
    assert ended.returncode == 0, ended.stderr
    return made
