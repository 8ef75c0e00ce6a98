"""The site is the same whatever did the work, and whatever a file claims."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.records import read_record
from benchmarks.seal import opened, sealed
from leaderboard.build import BoardError, build_site
from leaderboard.load import index_of, read_whole
from leaderboard.workers import Workers
from tests.leaderboard.golden import digests, listed, write_records


@pytest.fixture
def results(tmp_path) -> Path:
    """The golden records."""
    write_records(tmp_path)
    return tmp_path


def test_several_processes_and_any_order_of_files_give_the_same_bytes(results, tmp_path_factory):
    alone = tmp_path_factory.mktemp("alone")
    build_site(results, alone, processes=1)
    together = tmp_path_factory.mktemp("together")
    # Another order of names in the folder's own list, and other times.
    copied = tmp_path_factory.mktemp("copied")
    for path in sorted(results.glob("*/*.json"), key=lambda path: path.name[::-1], reverse=True):
        (copied / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, copied / path.parent.name)
    build_site(copied, together, processes=2)
    assert digests(alone) == digests(together)
    assert len(digests(alone)) > 30


def test_the_site_of_the_golden_records_is_the_one_listed(results, tmp_path_factory):
    site = tmp_path_factory.mktemp("golden")
    build_site(results, site)
    found, expected = digests(site), listed()
    changed = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
    assert not changed, "if that is meant, python -m tests.leaderboard.golden lists the site anew"


def test_a_board_without_any_record_goes_to_other_processes_too(tmp_path, cell):
    """Of two models at two bit-widths one has no record at one of them."""
    for model, bits in (("resnet8", "W4A4"), ("resnet8", "W8A8"), ("resnet20", "W8A8")):
        cell("best-uniform", [1, 0, 1], model=model, bits=bits)
        cell("dqss", [1, 1, 1], model=model, bits=bits, seed=0)
    build_site(tmp_path, tmp_path / "alone", processes=1)
    build_site(tmp_path, tmp_path / "together", processes=2)
    assert digests(tmp_path / "alone") == digests(tmp_path / "together")
    assert len(list((tmp_path / "alone" / "cells").iterdir())) == 4


def test_work_comes_back_in_order_and_little_is_taken_ahead():
    taken = []

    def tasks():
        for number in range(40):
            taken.append(number)
            yield number

    with Workers(2) as workers:
        results = workers.map(str, tasks())
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        assert len(taken) < 20
        assert list(results) == [str(number) for number in range(3, 40)]
        assert set(workers.map(os.getenv, ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])) == {"1"}


def test_a_file_whose_beginning_tells_another_cell_than_the_rest_is_a_fault(tmp_path, cell):
    """Of two equal keys in JSON the last one counts; the beginning has only the first."""
    path = cell("dqss", [1, 1], model="resnet8", seed=0)
    honest = cell("dqss", [1, 0], model="resnet20", seed=0)
    body = opened(path.read_bytes())[1].decode()
    path.write_bytes(
        sealed(
            "{\n"
            + body.replace('"protocol": "all-layers"', '"protocol": "mine"', 1)[:-3].rstrip()
            + ',\n "protocol": "all-layers"\n}'
        )
    )
    assert read_record(path).protocol == "all-layers"
    index = index_of(tmp_path)
    records, faults = read_whole(tmp_path, index.entries)
    assert [record.key for record in records] == [honest.stem]
    assert [fault.file for fault in faults] == [("demo", path.name)]
    assert "its beginning tells otherwise" in faults[0].words


@pytest.mark.parametrize("layout", ["compact", "sorted", "long"])
def test_a_record_that_another_program_laid_out_is_read_all_the_same(tmp_path, cell, layout):
    path = cell("dqss", [1, 1], seed=0)
    expected = index_of(tmp_path)
    content = json.loads(path.read_text())
    del content["schema_version"], content["sha256"]
    if layout == "long":
        # The definition is not in what is read of the beginning.
        content = {"ids": {"calibration": list(range(0, 20_000, 2))}} | {k: content[k] for k in content if k != "ids"}
    text = json.dumps(content, indent=None if layout == "compact" else 1, sort_keys=layout == "sorted")
    path.write_bytes(sealed(text.replace("{", "{\n", 1) if layout == "compact" else text))
    found = index_of(tmp_path)
    assert not found.faults
    assert [(e.board, e.subject, e.variant) for e in found.entries] == [
        (e.board, e.subject, e.variant) for e in expected.entries
    ]


def test_a_bad_file_of_a_newer_version_does_not_displace_good_ones(tmp_path, cell):
    good = cell("dqss", [1, 1], seed=0)
    bad = cell("dqss", [1, 0], seed=0, suite_version=2, started="2026-01-02T00:00:00+00:00")
    bad.write_text(bad.read_text()[:-40])
    index = index_of(tmp_path)
    assert [entry.key for entry in index.entries] == [good.stem]
    assert [fault.file[1] for fault in index.faults] == [bad.name]


def test_a_board_whose_files_are_all_bad_is_missing_and_a_folder_of_them_is_no_board(tmp_path, cell):
    cell("dqss", [1, 1], bits="W8A8", seed=0)
    bad = cell("dqss", [1, 1], bits="W4A4", seed=0, score=12.0)
    index = build_site(tmp_path, tmp_path / "site")
    assert "is not the mean of its outcomes" in index.read_text()
    assert len(list((tmp_path / "site" / "cells").iterdir())) == 2
    for path in bad.parent.glob("*.json"):
        if path != bad:
            path.unlink()
    with pytest.raises(BoardError, match="is not the mean of its outcomes"):
        build_site(tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
