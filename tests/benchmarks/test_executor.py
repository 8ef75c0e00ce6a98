import os
import pickle
import stat
import subprocess
import sys
import time

import pytest

from benchmarks import cli
from benchmarks.executor import ExecutorError, Work, option, submit, time_limit, without
from benchmarks.records import iterate_records
from benchmarks.schedule import Plan, PlanRow

SUITE = """\
suite: tiny
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W8A8, W4A4]
protocol: all-layers
seeds: [0]
ptq:
  quantizers: {weight: [minmax], activation: [minmax]}
  methods: [uniform]
"""
# What it is given it keeps; it answers as sbatch does, or refuses.
SBATCH = """\
#!/bin/sh
cp "$1" "$FAKE_SLURM/script"
if [ -e "$FAKE_SLURM/refuse" ]; then
    echo "sbatch: error: invalid partition specified: gpu" >&2
    exit 1
fi
echo "Submitted batch job 42"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A scheduler that takes jobs and runs none; return the folder of what it was given."""
    pytest.importorskip("submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        (folder / name).write_text(SBATCH)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


def asked_for(slurm):
    """Return what the script asks sbatch for."""
    lines = (slurm / "script").read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in options)}


def planned(*seconds):
    rows = [PlanRow(cell=None, state="to do", reason=None, expected_seconds=each) for each in seconds]
    known = None not in seconds
    return Plan([*rows, PlanRow(None, "done", None, 9999.0)], sum(seconds) if known else None)


@pytest.mark.parametrize(
    ("seconds", "jobs", "timeout", "minutes"),
    [
        # Twice 6 x 600 s over three jobs, and five minutes.
        ([600.0] * 6, 3, None, 2 * 20 + 5),
        # The longest cell alone takes longer than a share of all.
        ([3600.0, 10.0, 10.0], 3, None, 2 * 60 + 5),
        ([30.0], 1, None, 1 + 5),
        # What is more than a day is cut, since a job that is cut off is requeued.
        ([3600.0] * 100, 1, None, 24 * 60 + 5),
        # But not below twice the longest cell, or the time after which a cell is ended.
        ([100_000.0], 1, None, 3334 + 5),
        ([100_000.0], 1, 90_000, 1500 + 5),
        # Nothing was measured.
        ([None, 5.0], 2, None, 4 * 60 + 5),
        ([None], 1, 36_000, 600 + 5),
    ],
)
def test_the_time_limit_is_that_worked_out_by_hand(seconds, jobs, timeout, minutes):
    assert time_limit(planned(*seconds), jobs, timeout) == minutes


@pytest.mark.parametrize(
    "text", ["", "=x", "partition=", "--partition=gpu", "a b=c", "comment=a\nrm -rf", "Partition=x"]
)
def test_what_is_no_option_of_sbatch_is_refused(text):
    with pytest.raises(ValueError, match="is not an option of sbatch"):
        option(text)


@pytest.mark.parametrize(("text", "own"), [("array=1-9", "--array"), ("time=10", "--minutes")])
def test_what_has_an_option_of_its_own_is_refused_with_its_name(text, own):
    with pytest.raises(ValueError, match=own):
        option(text)


def test_a_job_has_the_command_line_of_the_run_without_what_submits_it():
    given = (
        "run s.yaml --executor slurm --out=o --array 4 --sbatch=a=b --sbatch c=d --minutes 9 --shard 1/2 --retries 0"
    )
    names = ("--executor", "--array", "--minutes", "--sbatch")
    assert without(given.split(), names) == ["run", "s.yaml", "--out=o", "--shard", "1/2", "--retries", "0"]


def test_sbatch_is_asked_for_an_array_of_equal_jobs_that_are_requeued(suite, slurm, tmp_path, capsys):
    out = tmp_path / "out"
    given = [
        "--executor",
        "slurm",
        "--array",
        "8",
        "--minutes",
        "30",
        "--sbatch",
        "partition=gpu",
        "--sbatch",
        "exclusive",
    ]
    assert cli.main(["run", str(suite), "--out", str(out), *given]) == 0
    asked = asked_for(slurm)
    # Two cells need no more than two jobs.
    assert asked["array"] == "0-1%2"
    assert asked["time"] == "30"
    assert asked["partition"] == "gpu"
    assert asked["exclusive"] == asked["requeue"] == ""
    assert asked["signal"] == "USR2@90"
    assert asked["job-name"] == "dqss-tiny"
    logs = out / "tiny" / "logs" / "jobs"
    assert asked["output"].startswith(str(logs.resolve()))
    for number in (0, 1):
        work = pickle.loads((logs / f"42_{number}" / f"42_{number}_submitted.pkl").read_bytes())
        assert work.function == Work(("run", str(suite), "--out", str(out)))
        # After its time it begins again with the same words.
        assert work.function.checkpoint().function == work.function
    shown = capsys.readouterr().out
    assert "Submitted 2 jobs for 2 cells: 42_0, 42_1" in shown
    assert "time limit  30 min 0 s (--minutes); then requeued" in shown
    assert f"next        dqss-bench status {suite} --out {out}" in shown
    assert not list(iterate_records(out))


def test_where_nothing_was_measured_a_job_has_four_hours(suite, slurm, tmp_path, capsys):
    assert cli.main(["run", str(suite), "--out", str(tmp_path / "out"), "--executor", "slurm", "--array", "1"]) == 0
    asked = asked_for(slurm)
    assert asked["time"] == "245"
    assert "array" not in asked
    assert "4 h 5 min (nothing was measured yet)" in capsys.readouterr().out


def test_what_sbatch_says_against_it_is_told_in_a_line(suite, slurm, tmp_path, capsys):
    (slurm / "refuse").touch()
    assert cli.main(["run", str(suite), "--out", str(tmp_path / "out"), "--executor", "slurm"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == (
        "dqss-bench: --executor slurm: sbatch refused: sbatch: error: invalid partition specified: gpu"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--executor", "slrum"], "Did you mean 'slurm'?"),
        (["--array", "4"], "--array is of jobs. Write --executor slurm, or leave it out."),
        (["--minutes", "4"], "--minutes is of jobs."),
        (["--sbatch", "partition=gpu"], "--sbatch is of jobs."),
        (["--executor", "slurm", "--sbatch", "time=3"], "--sbatch: 'time' has an option of its own. Write --minutes."),
        (["--executor", "slurm", "--max-cells", "3"], "--max-cells and --fail-fast are of one process"),
        (["--executor", "slurm", "--fail-fast"], "--max-cells and --fail-fast are of one process"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message, suite, slurm, tmp_path, capsys):
    assert cli.main(["run", str(suite), "--out", str(tmp_path / "out"), *given]) == 2
    assert message in capsys.readouterr().err
    assert not (slurm / "script").exists()


def test_a_launched_process_submits_nothing(suite, slurm, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["run", str(suite), "--out", str(tmp_path / "out"), "--executor", "slurm"]) == 2
    assert "Start it without a launcher." in capsys.readouterr().err


def test_a_missing_scheduler_and_a_missing_package_are_told_of(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match="no sbatch or srun here"):
        submit(["run"], "tiny", "slurm", 1, 5, {}, tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ExecutorError, match=r"pip install 'dqss-bench\[slurm\]'"):
        submit(["run"], "tiny", "slurm", 1, 5, {}, tmp_path)


def test_a_job_that_cannot_run_fails_and_one_with_failed_cells_does_not(monkeypatch):
    for code in (0, 1):
        monkeypatch.setattr(cli, "main", lambda words, code=code: code)
        assert Work(("run", "x"))() == code
    monkeypatch.setattr(cli, "main", lambda words: 2)
    with pytest.raises(RuntimeError, match="exit code 2"):
        Work(("run", "x"))()


@pytest.mark.slow
def test_two_local_jobs_run_the_cells_between_them(suite, tmp_path):
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    command = ["run", str(suite), "--out", str(out), "--executor", "local", "--array", "2", "--minutes", "9"]
    environment = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    # What the jobs hold open is not waited for.
    with (tmp_path / "said").open("w") as said:
        subprocess.run(
            [sys.executable, "-m", "benchmarks", *command], stdout=said, stderr=said, env=environment, check=True
        )
    jobs, waited = out / "tiny" / "logs" / "jobs", 0
    while len(list(jobs.glob("*/*_result.pkl"))) < 2 and waited < 900:
        time.sleep(1)
        waited += 1
    outcomes = [pickle.loads(path.read_bytes()) for path in jobs.glob("*/*_result.pkl")]
    assert outcomes == [("success", 0)] * 2
    assert sorted(record.bits for record in iterate_records(out)) == ["W4A4", "W8A8"]
    assert all(record.status == "ok" for record in iterate_records(out))
