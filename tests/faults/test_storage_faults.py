"""Disks that are full, runs that meet on one folder, damaged records: nothing is lost, doubled or half-written."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mounts and process groups as on Linux")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 64 kB, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def whole_records(suite, out: Path) -> dict[str, object]:
    """Return the results that are there; nothing else is in the folder but logs and what marks them as tracked."""
    names = {path.name for path in (out / "small").iterdir()}
    assert all(name in ("tracked", "logs") or (len(name) == 69 and name.endswith(".json")) for name in names), names
    return suite.results(out)


@pytest.mark.slow
@LINUX
def test_a_full_disk_ends_the_run_with_one_message_and_the_next_one_goes_on(small_suite, small_disk, tmp_path):
    elsewhere = f"sqlite:///{tmp_path / 'mlflow.db'}"
    out = small_disk / "out"
    ended = small_suite.run(out, MLFLOW_TRACKING_URI=elsewhere)
    assert ended.returncode == 2, ended.stderr
    told = [line for line in ended.stderr.splitlines() if "MLflow at" not in line]
    assert len(told) == 1
    assert told[0].startswith(f"dqss-bench: cannot write to the folder '{out}/small")
    assert "No space left on device. Free some space on that disk, or name another folder" in told[0]
    kept = whole_records(small_suite, out)
    assert 0 < len(kept) < 9

    # It stays full: the same again, and nothing gets lost by trying.
    assert small_suite.run(out, MLFLOW_TRACKING_URI=elsewhere).returncode == 2
    assert whole_records(small_suite, out) == kept

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    ended = small_suite.run(out, MLFLOW_TRACKING_URI=elsewhere)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert whole_records(small_suite, out) == small_suite.results(small_suite.reference)


@pytest.mark.slow
@LINUX
def test_a_disk_that_is_read_only_is_told_before_any_work(small_suite, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = small_suite.run(small_disk / "out")
    assert ended.returncode == 2
    assert ended.stderr == (
        f"dqss-bench: cannot write to the folder '{small_disk}/out': Read-only file system. "
        "Name another one with --out.\n"
    )
    assert ended.stdout == ""


def begin(suite, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, *suite.arguments(out)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=suite.environment,
        start_new_session=True,
    )


def cells_run(out: str) -> int:
    return sum(line.startswith("[") for line in out.splitlines())


@pytest.mark.slow
@LINUX
def test_runs_that_meet_on_one_folder_end_with_one_record_of_each_cell(small_suite, tmp_path):
    """One is killed in the middle; two others take over what it had begun."""
    out = tmp_path / "out"
    doomed = begin(small_suite, out)
    doomed.stdout.readline()
    others = [begin(small_suite, out) for _ in range(2)]
    doomed.stdout.readline()
    with suppress(ProcessLookupError):
        os.killpg(doomed.pid, signal.SIGKILL)
    doomed.communicate()
    for other in others:
        shown, told = other.communicate(timeout=500)
        assert (other.returncode, "Traceback" in told) == (0, False), told
        assert "cells, " in shown
    assert whole_records(small_suite, out) == small_suite.results(small_suite.reference)
    assert small_suite.tracked_keys(out) == sorted(small_suite.results(out))
    assert not (out / "small" / "claims").exists()


@pytest.mark.slow
@LINUX
def test_damaged_records_are_named_and_kept_and_their_cells_run_again(small_suite, tmp_path):
    out = tmp_path / "out"
    assert small_suite.run(out).returncode == 0
    hand = random.Random(0)
    files = sorted((out / "small").glob("*.json"))
    damaged = {}
    for path, damage in zip(hand.sample(files, 5), ("cut", "flip", "empty", "foreign", "swap"), strict=True):
        content = bytearray(path.read_bytes())
        match damage:
            case "cut":
                del content[hand.randrange(len(content)) :]
            case "flip":
                content[hand.randrange(len(content))] ^= 1 << hand.randrange(8)
            case "empty":
                content = bytearray(len(content))
            case "foreign":
                content = bytearray(b'{"accuracy": 99.9}\n')
            case "swap":
                content = bytearray(next(other for other in files if other != path).read_bytes())
        path.write_bytes(content)
        damaged[path] = bytes(content)
    before = {path: path.stat().st_mtime_ns for path in files if path not in damaged}
    ended = small_suite.run(out)
    assert ended.returncode == 0
    # On a busy machine it may also say that MLflow is to be brought up to date by the next run.
    told = sorted(line for line in ended.stderr.splitlines() if " sync --out " not in line)
    assert len(told) == 5
    assert small_suite.run(out).returncode == 0
    for path, line in zip(sorted(damaged), told, strict=True):
        assert line.startswith(f"dqss-bench: {path}: ")
        assert line.endswith(f"It is kept as {path.name}.bad, and its cell runs again.")
        assert path.with_name(f"{path.name}.bad").read_bytes() == damaged[path]
    assert small_suite.results(out) == small_suite.results(small_suite.reference)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert small_suite.tracked_keys(out) == sorted(small_suite.results(out))
