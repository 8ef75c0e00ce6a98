import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

# How many lines of output to wait for, and the longest delay in seconds after them: while the program is imported,
# while the model is loaded and calibrated, and while cells are searched, evaluated and written.
MOMENTS = [(0, 2.0)] * 3 + [(1, 1.0)] * 3 + [(2, 0.2)] * 4


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Give a process that leads a group of its own; nothing of the group is left afterwards."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return the name of each record's file with what writing it again would change."""
    files = {path.name: path.stat() for path in (out / "small").glob("*.json")}
    return {name: (facts.st_ino, facts.st_mtime_ns) for name, facts in files.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGKILL are POSIX")
def test_a_suite_killed_ten_times_ends_with_the_records_of_an_unbroken_one(small_suite, tmp_path):
    out = tmp_path / "out"
    generator = random.Random(0)
    moments = generator.sample(MOMENTS, len(MOMENTS))
    kept = finished(out)
    survivors: list[psutil.Process] = []
    for lines, longest in moments:
        with started([sys.executable, *small_suite.arguments(out)], small_suite.environment) as process:
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(generator.uniform(0, longest))
            # The tracking process has a session of its own. It dies too, or sees its run gone, as chance has it.
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            for child in children:
                if generator.random() < 0.5:
                    child.kill()
                else:
                    survivors.append(child)
        assert process.returncode == -signal.SIGKILL
        now = finished(out)
        assert {name: now[name] for name in kept} == kept
        kept = now
    assert 0 < len(kept) < len(finished(small_suite.reference)), "the moments were not spread over the run"

    ended = small_suite.run(out)
    assert (ended.returncode, ended.stderr) == (0, "")
    for child in survivors:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    assert {name: facts for name, facts in finished(out).items() if name in kept} == kept
    assert small_suite.results(out) == small_suite.results(small_suite.reference)
    assert small_suite.tracked_keys(out) == sorted(small_suite.results(out))
    expected = {path.name for path in small_suite.reference.iterdir()} | {"mlflow.db.part"}
    assert {path.name for path in out.iterdir()} <= expected
    left_over = [path.name for path in (out / "small").iterdir() if path.name not in finished(out)]
    assert all(name in ("tracked", "logs") or name.endswith(".part") for name in left_over)
