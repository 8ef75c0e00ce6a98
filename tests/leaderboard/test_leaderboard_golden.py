"""The same records give the same bytes: on any machine, by any number of processes, in whatever order files lie."""

from __future__ import annotations

import shutil

import pytest

from tests.browser.sample import write_sample
from tests.leaderboard.golden import LIST, hashes


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "results"
    write_sample(folder)
    return folder


def test_the_site_of_fixed_records_is_the_one_on_the_list(results, tmp_path):
    # Meant to change? `python -m tests.leaderboard.golden` writes the list anew.
    assert hashes(results, tmp_path / "site", 1).splitlines() == LIST.read_text(encoding="utf-8").splitlines()


def test_two_processes_and_files_made_in_another_order_give_the_same_bytes(results, tmp_path):
    again = tmp_path / "results"
    for path in sorted(results.rglob("*.json"), reverse=True):
        (again / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, again / path.parent.name / path.name)
    assert hashes(again, tmp_path / "site", 2) == LIST.read_text(encoding="utf-8")
