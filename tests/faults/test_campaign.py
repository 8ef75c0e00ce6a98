"""A short fault campaign; the long one is `python -m tests.faults.campaign --faults 200`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from tests.faults.campaign import BOUT_OF, BOUTS, SHARES, counts_for

ROOT = Path(benchmarks.__file__).parents[1]


@pytest.mark.parametrize("faults", [1, 20, 200, 1000])
def test_a_campaign_has_as_many_faults_as_it_is_told(faults):
    assert sum(counts_for(faults).values()) == faults


def test_two_hundred_faults_are_of_all_classes_and_each_class_has_one_bout():
    assert min(counts_for(200).values()) > 0
    assert sorted(BOUT_OF) == sorted(SHARES) == sorted(fault for _, faults in BOUTS.values() for fault in faults)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits, processes and signals as on Linux")
def test_twenty_faults_lose_double_and_spoil_nothing():
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.campaign", "--faults", "20", "--seed", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # A burst may hit more workers than were asked for.
    assert int(re.search(r"^(\d+) faults in ", ended.stdout, re.MULTILINE)[1]) >= 20
