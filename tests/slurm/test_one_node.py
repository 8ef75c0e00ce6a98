"""A run as an array of jobs, on a real Slurm of one node that `one_node.sh` starts."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import benchmarks
from benchmarks.records import iterate_records

HERE = Path(__file__).parent
SUITE = """\
suite: array
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W8A8, W4A4]
protocol: all-layers
seeds: [0]
ptq:
  quantizers: {weight: [minmax, mse], activation: [minmax, mse]}
  methods: [uniform]
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
DEADLINE = 1800.0

pytestmark = [
    pytest.mark.slow,
    # It starts services and takes minutes, of which Slurm lets most go by before it requeues.
    pytest.mark.skipif("DQSS_TEST_SLURM" not in os.environ, reason="starts Slurm: set DQSS_TEST_SLURM=1"),
    pytest.mark.skipif(
        bool(MISSING), reason=f"no {', '.join(MISSING)}: install slurmctld, slurmd, slurm-client, munge"
    ),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="slurmd starts jobs as root only"),
]


@pytest.fixture
def slurm(tmp_path):
    """Return the environment in which commands speak to the Slurm of one node."""
    pytest.importorskip("submitit")
    folder = tmp_path / "slurm"
    script = str(HERE / "one_node.sh")
    subprocess.run([script, "start", str(folder)], check=True, capture_output=True, timeout=120)
    given = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "MLFLOW_"))}
    given.pop("WORLD_SIZE", None)
    given |= {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PYTHONPATH": str(Path(benchmarks.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    yield given
    subprocess.run(["scancel", "--user=root"], env=given, check=False)
    subprocess.run([script, "stop", str(folder)], check=True)


def said(slurm, *command):
    return subprocess.run(command, env=slurm, check=True, capture_output=True, text=True).stdout


def wait_until(happened):
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < DEADLINE
        time.sleep(0.5)


def test_an_array_of_two_jobs_one_of_them_preempted_runs_every_cell_once(slurm, tmp_path):
    suite, out = tmp_path / "array.yaml", tmp_path / "out"
    suite.write_text(SUITE)
    dqss_bench = [sys.executable, "-m", "benchmarks"]
    told = said(slurm, *dqss_bench, "run", str(suite), "--out", str(out), "--executor", "slurm", "--array", "2")
    assert "Submitted 2 jobs for 4 cells: " in told
    first = told.splitlines()[0].rpartition(": ")[2].split(", ")[0]

    def records():
        return list(iterate_records(out))

    wait_until(records)
    # As Slurm does some time before it ends a job.
    said(slurm, "scancel", "--signal=USR2", first)
    wait_until(lambda: "Restarts=1" in said(slurm, "scontrol", "show", "job", first))
    # A requeued job is held for a while; the other one does not wait for it.
    wait_until(lambda: not said(slurm, "squeue", "--noheader").strip())
    assert len(records()) == 4
    assert all(record.status == "ok" for record in records())
    assert not list((out / "array" / "claims").glob("*"))
    shown = [said(slurm, "scontrol", "show", "job", job) for job in (first, f"{first.partition('_')[0]}_1")]
    assert all("JobState=COMPLETED" in text for text in shown)
    assert "this job is preempted" in "".join(path.read_text() for path in out.rglob("*_log.*"))
    again = said(slurm, *dqss_bench, "run", str(suite), "--out", str(out), "--executor", "slurm")
    assert again == "Nothing is left to do.\n"
