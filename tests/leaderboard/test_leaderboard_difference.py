"""What changes on the board between two sets of records."""

from __future__ import annotations

import json

import pytest

from benchmarks import cli
from benchmarks.records import write_record
from benchmarks.submission import Submitter, pack
from leaderboard import difference
from leaderboard.difference import Held, load_both, to_markdown, to_text
from leaderboard.load import belonging


def compare_boards(before, after):
    return difference.compare_boards(*(Held(tuple(belonging(records))) for records in (before, after)))


@pytest.fixture
def before(record):
    return [record("best-uniform", [1, 0, 1, 0]), record("random", [1, 1, 1, 0], seed=0)]


def test_records_that_are_the_same_change_nothing(before):
    found = compare_boards(before, before[::-1])
    assert (found.cells, found.boards) == ((), ())
    assert to_text(found) == "Cells: 0 new, 0 gone, 0 changed. Boards that change: 0.\n"


def test_a_new_method_that_wins_moves_the_others_down(before, record):
    found = compare_boards(before, [*before, record("dqss", [1, 1, 1, 1], seed=0)])
    (cell,) = found.cells
    assert (cell.change, cell.before, cell.after) == ("new", None, "100.00")
    (board,) = found.boards
    assert board.board == "demo fashion-mnist ptq all-layers resnet8 W4A4"
    assert board.best == ("random", "dqss")
    assert board.bar == ("best-uniform", "best-uniform")
    rows = {row.method: row for row in board.rows}
    assert rows["dqss"].before is None
    # 100 % over the 50 % of the bar.
    assert (rows["dqss"].after.place, rows["dqss"].after.gain) == (1, 50.0)
    assert (rows["random"].before.place, rows["random"].after.place) == (1, 2)


def test_a_cell_that_is_gone_and_one_with_another_score_are_told_apart(before, record):
    found = compare_boards(before, [record("best-uniform", [0, 0, 1, 0])])
    assert [(cell.change, cell.before, cell.after) for cell in found.cells] == [
        ("gone", "75.00", None),
        ("changed", "50.00", "25.00"),
    ]
    (board,) = found.boards
    assert board.best == ("random", "best-uniform")


def test_a_cell_that_fails_loses_its_place(before, record):
    found = compare_boards(before, [before[0], record("random", None, seed=0, status="failed", reason="no memory")])
    (board,) = found.boards
    (row,) = [row for row in board.rows if row.method == "random"]
    assert (row.before.place, row.after.place, row.after.state) == (1, None, "failed")


def test_a_submission_adds_to_the_folder_and_replaces_nothing(tmp_path, before, record):
    for each in before:
        write_record(tmp_path / "a", each)
    again = record("random", [1, 1, 1, 1], seed=0, started="2026-02-01T00:00:00+00:00")
    archive = tmp_path / "b.zip"
    archive.write_bytes(pack([again, record("dqss", [1, 1, 1, 1], seed=0)], Submitter("Jane")))
    found = difference.compare_boards(*load_both(tmp_path / "a", archive))
    assert [(cell.change, cell.before, cell.after) for cell in found.cells] == [("new", None, "100.00")]
    (board,) = found.boards
    # Nobody ran it again: it is shown with its gain, and the best stays the best.
    assert board.best == ("random", "random")
    (row,) = board.rows
    assert (row.method, row.after.place, row.after.state, row.after.gain) == ("dqss", None, "self-reported", 50.0)


def test_the_command_line_prints_text_json_and_markdown(tmp_path, before, record, capsys):
    for folder, records in (("a", before), ("b", [*before, record("dqss", [1, 1, 1, 1], seed=0)])):
        for each in records:
            write_record(tmp_path / folder, each)
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert cli.main(["leaderboard", "diff", *both]) == 0
    assert "best: random -> dqss; bar: best-uniform" in capsys.readouterr().out
    assert cli.main(["leaderboard", "diff", *both, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["boards"][0]["best"] == ["random", "dqss"]
    assert cli.main(["leaderboard", "diff", *both, "--format", "markdown"]) == 0
    assert "| new | `dqss` | - -> 1 (best) | - -> 100.00 | - -> +50.00 |" in capsys.readouterr().out
    assert cli.main(["leaderboard", "diff", str(tmp_path / "none"), both[1]]) == 2
    assert cli.main(["leaderboard", "diff", both[0], str(tmp_path / "none.zip")]) == 2
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    assert cli.main(["leaderboard", "diff", both[0], str(tmp_path / "bad.zip")]) == 1


def test_names_stay_names_in_markdown(before, record):
    found = compare_boards(before, [*before, record("a`|<script>", [1, 1, 1, 1], seed=0)])
    for line in to_markdown(found).splitlines():
        assert "`a`" not in line
    assert "`a??<script>`" in to_markdown(found)
