"""A real cell, run, packed, checked and run again; and one whose images somebody flattered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.records import Outcomes, iterate_records, write_record
from benchmarks.submission_report import read_report, report_path

ROOT = Path(__file__).parents[2]
CELL = ["run", "quickstart", "--only", "method=uniform-mse"]


def pack_and_check(results: Path, archive: Path) -> int:
    assert cli.main(["submit", "pack", str(results), "-o", str(archive), "--name", "Jane Doe"]) == 0
    return cli.main(["submit", "check", str(archive), "--rerun", "1", "--report", str(report_path(archive))])


@pytest.mark.slow
def test_a_cell_that_ran_is_verified_and_one_with_better_outcomes_is_refused(tmp_path, capsys):
    words = [sys.executable, "-m", "benchmarks", *CELL, "--out", str(tmp_path / "results")]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    (record,) = iterate_records(tmp_path / "results")
    assert record.status == "ok"

    assert pack_and_check(tmp_path / "results", tmp_path / "true.zip") == 0
    verdict = read_report(report_path(tmp_path / "true.zip"))
    (rerun,) = verdict.reruns
    assert (verdict.badge, rerun.key, rerun.score, rerun.fault) == ("verified", record.key, record.score, None)
    assert rerun.again == pytest.approx(record.score, abs=rerun.tolerance)
    assert "It agrees." in capsys.readouterr().out

    # Every tenth image more is right: nothing in the archive contradicts it, only the cell itself does.
    hits = record.outcomes.unpack().copy()
    hits[::10] = True
    better = float(hits.mean()) * 100
    assert better > record.score + 2.5
    write_record(tmp_path / "flattered", record.model_copy(update={"outcomes": Outcomes.pack(hits), "score": better}))
    archive = tmp_path / "flattered.zip"
    assert pack_and_check(tmp_path / "flattered", archive) == 1
    assert json.loads(report_path(archive).read_text())["badge"] == "refused"
    assert f"its score {better:g} is " in capsys.readouterr().out
    assert cli.main(["submit", "check", str(archive)]) == 0
