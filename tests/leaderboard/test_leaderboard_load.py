"""Which records count, and how the others are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.records import Record
from benchmarks.seal import sealed
from leaderboard.load import index_of, read_whole


class Loaded(NamedTuple):
    """All that a results folder holds."""

    records: list[Record]
    faults: list[str]
    superseded: int


def load(results: Path) -> Loaded:
    """Read all that counts, as a build does board by board."""
    index = index_of(results)
    records, faults = read_whole(results, index.entries)
    return Loaded(records, [words for _, words in (*index.faults, *faults)], index.superseded)


def test_a_folder_of_two_suites_is_read_whole(tmp_path, cell):
    cell("dqss", [1, 1], suite="classification", seed=0)
    cell("dqss", [1, 0], suite="quickstart", seed=0)
    loaded = load(tmp_path)
    assert [record.suite for record in loaded.records] == ["classification", "quickstart"]
    assert loaded.faults == []


def test_a_truncated_file_is_listed_by_its_path_within_the_results(tmp_path, cell):
    path = cell("dqss", [1, 1], seed=0)
    path.write_text(path.read_text()[:100])
    loaded = load(tmp_path)
    assert loaded.records == []
    assert len(loaded.faults) == 1
    assert loaded.faults[0].startswith(f"demo/{path.name}: ")
    assert str(tmp_path) not in loaded.faults[0]


def test_a_score_that_its_outcomes_do_not_give_is_a_fault(tmp_path, cell):
    cell("dqss", [1, 0, 1, 0], score=99.0)
    loaded = load(tmp_path)
    assert loaded.records == []
    assert "its score 99 is not the mean of its outcomes, 50" in loaded.faults[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outcomes": {"kind": "bits", "count": 4, "data": "****"}}, "its outcomes"),
        ({"outcomes": {"kind": "bits", "count": 4, "data": ""}}, "0 bytes are not 4 outcomes"),
        ({"outcomes": {"kind": "bits", "count": 0, "data": ""}}, "0 is no number of images"),
        ({"outcomes": {"kind": "bits", "count": -8, "data": "0A=="}}, "-8 is no number of images"),
        ({"outcomes": {"kind": "float32", "count": 4, "data": "AAAA"}}, "3 bytes are not 4 outcomes"),
        ({"outcomes": {"kind": "float32", "count": 1, "data": "AADAfw=="}}, "its score 75 is not the mean"),
        ({"metric": None}, "no score or no metric"),
        ({"status": "failed", "reason": None, "score": None}, "without a reason"),
        ({"status": "failed", "reason": "no memory"}, "failed and yet has a score"),
    ],
)
def test_a_record_that_contradicts_itself_is_a_fault_and_never_an_exception(tmp_path, cell, change, words):
    path = cell("dqss", [1, 1, 0, 1])
    content = json.loads(path.read_text()) | change
    del content["schema_version"], content["sha256"]
    path.write_bytes(sealed(json.dumps(content, indent=1)))
    loaded = load(tmp_path)
    assert loaded.records == []
    assert words in loaded.faults[0]


def test_float_outcomes_count_in_the_unit_of_their_metric(tmp_path, cell):
    cell("dqss", [30.5, 31.5])
    assert load(tmp_path).records[0].score == 31.0


def test_of_one_cell_with_two_sets_of_options_the_later_run_counts(tmp_path, cell):
    cell("dqss", [1, 0], seed=0, options={"steps": 10}, started="2026-01-01T00:00:00+00:00")
    cell("dqss", [1, 0], seed=1, options={"steps": 10}, started="2026-01-01T00:00:01+00:00")
    later = cell("dqss", [1, 1], seed=0, options={"steps": 20}, started="2026-01-02T00:00:00+00:00")
    loaded = load(tmp_path)
    assert [record.key for record in loaded.records] == [later.stem]
    assert loaded.superseded == 2


def test_records_of_another_checkpoint_do_not_stay_on_a_board(tmp_path, cell):
    cell("best-uniform", [0, 0], checkpoint="old", started="2026-01-01T00:00:00+00:00")
    cell("dqss", [1, 1], checkpoint="new", started="2026-01-02T00:00:00+00:00")
    loaded = load(tmp_path)
    assert [record.method for record in loaded.records] == ["dqss"]
    assert loaded.superseded == 1


def test_only_the_newest_version_of_a_suite_counts(tmp_path, cell):
    cell("dqss", [1, 1], model="resnet8", suite_version=1, started="2026-01-03T00:00:00+00:00")
    cell("dqss", [1, 0], model="resnet20", suite_version=2, started="2026-01-02T00:00:00+00:00")
    assert [record.model for record in load(tmp_path).records] == ["resnet20"]


@pytest.mark.parametrize("copy", ["backup", "zz"])
def test_of_a_copied_folder_each_record_counts_once_and_the_copy_is_told(tmp_path, cell, copy):
    paths = [cell("dqss", [1, 1], seed=seed) for seed in (0, 1)]
    shutil.copytree(tmp_path / "demo", tmp_path / copy)
    index = index_of(tmp_path)
    assert [(entry.file[0], entry.seed) for entry in index.entries] == [("demo", 0), ("demo", 1)]
    names = sorted(path.name for path in paths)
    told = [f"{copy}/{name}: the same record as demo/{name}. It counts once." for name in names]
    assert [words for _, words in index.faults] == told
    assert index.superseded == 0


def test_of_copies_in_folders_of_other_names_the_first_path_counts(tmp_path, cell):
    cell("dqss", [1, 1], seed=0)
    (tmp_path / "demo").rename(tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    assert [entry.file[0] for entry in index_of(tmp_path).entries] == ["a"]


def test_two_suites_with_the_same_cell_both_have_it(tmp_path, cell):
    first, second = (cell("dqss", [1, 1], suite=suite) for suite in ("classification", "quickstart"))
    assert first.stem == second.stem
    assert len(load(tmp_path).records) == 2


def test_an_empty_folder_holds_nothing(tmp_path: Path):
    assert load(tmp_path).records == []
