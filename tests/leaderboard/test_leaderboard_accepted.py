"""What accepted submissions add to the official records, and that they take nothing away."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.records import write_record
from benchmarks.submission import Submitter, pack
from benchmarks.submission_report import Rerun, Verdict
from leaderboard.accepted import load_board, read_submission
from leaderboard.badges import ORDER, weakest
from leaderboard.boards import compare
from leaderboard.build import build_site
from leaderboard.load import load

CHECKED = "2026-03-01T00:00:00+00:00"


@pytest.fixture
def official(tmp_path, record):
    records = [
        record("best-uniform", [1, 0, 1, 0]),
        record("random", [1, 1, 1, 0], seed=0),
        record("random", [1, 1, 0, 0], seed=1),
    ]
    for one in records:
        write_record(tmp_path / "results", one)
    return records


@pytest.fixture
def submit(tmp_path):
    """Accept an archive of records; cells to run again give it the badge `verified`."""

    def accept(name, records, again=(), checked=CHECKED, changes=None):
        folder = tmp_path / "submissions"
        folder.mkdir(exist_ok=True)
        content = pack(records, Submitter(name))
        (folder / f"{name}.zip").write_bytes(content)
        ok = sum(one.status == "ok" for one in records)
        reruns = tuple(Rerun(one.key, one.score, one.score, 0.5, None) for one in again)
        verdict = Verdict(hashlib.sha256(content).hexdigest(), checked, name, len(records), ok, (), reruns)
        report = json.loads(verdict.to_json()) | (changes or {})
        (folder / f"{name}.check.json").write_text(json.dumps(report))
        return folder / f"{name}.zip"

    return accept


@pytest.fixture
def board(tmp_path):
    def load_it():
        return load_board(tmp_path / "results", tmp_path / "submissions")

    return load_it


def badges(loaded):
    (comparison,) = compare(loaded.records, loaded.origins)
    return {row.method: row.badge for board in comparison.boards for row in board.rows}


def test_each_record_has_the_badge_of_where_it_is_from(official, submit, board, record):
    mine, theirs = record("greedy", [1, 1, 1, 1]), record("fisher", [0, 1, 1, 1])
    submit("jane", [mine], again=[mine])
    submit("john", [theirs])
    loaded = board()
    assert loaded.faults == ()
    assert badges(loaded) == {
        "best-uniform": "official",
        "random": "official",
        "greedy": "verified",
        "fisher": "self-reported",
    }
    assert [(one.archive, one.again, loaded.shown(one)) for one in loaded.submissions] == [
        ("jane.zip", 1, 1),
        ("john.zip", 0, 1),
    ]


def test_somebodys_own_folder_has_no_badges(official, tmp_path):
    assert set(badges(load(tmp_path / "results")).values()) == {None}


def test_the_weakest_badge_of_several_is_what_a_row_has():
    for i, first in enumerate(ORDER):
        for second in ORDER[i:]:
            assert weakest([first, second]) == weakest([second, first]) == second
    assert weakest([]) is None


@pytest.mark.parametrize(
    "attack",
    [
        # The same cell, with a better score and a later run.
        lambda record: [record("random", [1, 1, 1, 1], seed=0, started="2030-01-01T00:00:00+00:00")],
        # Another checkpoint, which in one folder would take the board over, as the one run last.
        lambda record: [record("greedy", [1, 1, 1, 1], checkpoint="mine", started="2030-01-01T00:00:00+00:00")],
        lambda record: [record("greedy", [1, 1, 1, 1], data="mine", started="2030-01-01T00:00:00+00:00")],
        # A newer suite version would make all official records old ones.
        lambda record: [record("greedy", [1, 1, 1, 1], suite_version=2)],
        lambda record: [record("greedy", [1, 1, 1, 1], suite_version=2, model="other")],
        # Other options of a method.
        lambda record: [record("random", [1, 1, 1, 1], seed=s, options={"draws": 9}) for s in (0, 1)],
        # A seed more would leave every official method with seeds incomplete.
        lambda record: [record("random", [1, 1, 1, 1], seed=2)],
        lambda record: [record("greedy", [1, 1, 1, 1], seed=2)],
        # A board more would leave every official method without a result there.
        lambda record: [record("greedy", [1, 1, 1, 1], model="other")],
        lambda record: [record("greedy", [1, 1, 1, 1], bits="W2A2")],
        # Other test images: ranks would no longer have an interval.
        lambda record: [record("greedy", [1, 1, 1, 1]).model_copy(update={"ids": {"test": "10-13"}})],
    ],
)
def test_a_submission_moves_nothing_official_verified_or_not(attack, official, submit, board, record):
    before = board()
    records = attack(record)
    submit("mallory", records, again=records)
    after = board()
    assert after.records == before.records
    assert after.origins == before.origins
    (submission,) = after.submissions
    assert after.shown(submission) == 0


def test_a_verified_method_is_ranked_and_a_self_reported_one_is_not(official, submit, board, record):
    mine, theirs = record("greedy", [1, 1, 1, 1]), record("fisher", [1, 1, 1, 1])
    submit("jane", [mine], again=[mine])
    submit("john", [theirs])
    loaded = board()
    (comparison,) = compare(loaded.records, loaded.origins)
    rows = {row.method: row for row in comparison.boards[0].rows}
    assert (rows["greedy"].ranked, rows["greedy"].rank) == (True, "best")
    assert (rows["fisher"].ranked, rows["fisher"].rank) == (False, None)
    # 100 % over the 50 % of the bar: a gain is told of all.
    assert rows["fisher"].gain.value == rows["greedy"].gain.value == 50.0
    assert {place.method for place in comparison.standings.places} == {"best-uniform", "random", "greedy"}
    assert comparison.boards[0].rival.method == "greedy"


def test_ranks_of_the_others_are_what_they_were_before_a_self_reported_one_came(official, submit, board, record):
    (before,) = compare(board().records, board().origins)
    submit("john", [record("fisher", [1, 1, 1, 1])])
    (after,) = compare(board().records, board().origins)
    assert after.standings == before.standings
    kept = [row for row in after.boards[0].rows if row.method != "fisher"]
    assert kept == list(before.boards[0].rows)


def test_full_precision_is_that_of_the_official_records(official, submit, board, record):
    mine = record("greedy", [1, 1, 1, 1], full_precision=99.0)
    submit("jane", [mine], again=[mine])
    loaded = board()
    (comparison,) = compare(loaded.records, loaded.origins)
    assert comparison.boards[0].full_precision == (90.0, 90.0)


def test_a_self_reported_method_is_never_the_bar_of_a_training_board(tmp_path, submit, board, record):
    training = {"mode": "qat", "training": {"epochs": 1}}
    for method, outcomes, validation in (("uniform-lsq", [1, 1, 0, 0], 60.0), ("dqss", [1, 1, 1, 0], 70.0)):
        write_record(tmp_path / "results", record(method, outcomes, validation=validation, **training))
    # A bar that is said to be good on search-validation images and is bad on the test images makes others look good.
    submit("mallory", [record("uniform-dorefa", [0, 0, 0, 0], validation=99.0, **training)])
    loaded = board()
    (comparison,) = compare(loaded.records, loaded.origins)
    assert comparison.boards[0].bar == "uniform-lsq"
    assert comparison.boards[0].gain.value == 25.0


def test_self_reported_results_alone_are_ranked_among_themselves(tmp_path, submit, board, record):
    (tmp_path / "results").mkdir()
    submit("jane", [record("best-uniform", [1, 0, 0, 0]), record("dqss", [1, 1, 0, 0])])
    loaded = board()
    (comparison,) = compare(loaded.records, loaded.origins)
    assert [(row.method, row.ranked) for row in comparison.boards[0].rows] == [("dqss", True), ("best-uniform", True)]
    assert comparison.boards[0].rows[0].rank == "best"
    assert comparison.boards[0].gain.value == 25.0


def test_a_larger_submitted_suite_stands_behind_the_official_ones(official, submit, board, record):
    submit("jane", [record(f"m{i}", [1, 1, 1, 1], suite="aaa") for i in range(9)])
    loaded = board()
    assert [comparison.suite for comparison in compare(loaded.records, loaded.origins)] == ["demo", "aaa"]


def test_of_two_submissions_of_a_cell_the_verified_one_counts_else_the_one_checked_first(
    official, submit, board, record
):
    first, second = record("greedy", [1, 1, 0, 0]), record("greedy", [1, 1, 1, 1])
    assert first.key == second.key
    submit("a", [second], checked="2026-03-02T00:00:00+00:00")
    submit("b", [first], checked="2026-03-01T00:00:00+00:00")
    origin = board().origins["demo", first.key]
    assert (origin.archive, origin.submitter) == ("b.zip", "b")
    submit("c", [second], again=[second], checked="2026-03-03T00:00:00+00:00")
    assert board().origins["demo", first.key].archive == "c.zip"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"badge": "verified"}, "says 'verified', and what it found makes self-reported"),
        ({"badge": "official"}, "says 'official', and what it found makes self-reported"),
        ({"sha256": "0" * 64}, "is of another archive"),
        ({"name": "Jane Doe"}, "tells of another submitter"),
        ({"records": 9}, "tells of another submitter or of other records"),
        ({"ok": 0}, "tells of another submitter or of other records"),
        ({"checked": "yesterday"}, "does not tell when"),
        ({"checked": "2026-03-01"}, "the time zone is missing"),
        ({"official": True}, "its check report is none"),
        ({"reruns": 2}, "its check report is none"),
        ({"faults": ["x"], "badge": "refused"}, "its check refused it"),
    ],
)
def test_a_report_that_was_edited_gives_no_place_on_the_board(changes, words, official, submit, board, record):
    submit("jane", [record("greedy", [1, 1, 1, 1])], changes=changes)
    loaded = board()
    assert len(loaded.records) == len(official)
    (fault,) = loaded.faults
    assert fault.startswith("jane.zip: ")
    assert words in fault


@pytest.mark.parametrize(
    ("rerun", "words"),
    [
        # More cells than it ran.
        ({"again": None}, "is said to agree, and was not run"),
        ({"again": 60.0}, "came out as 60 where 100 was submitted"),
        ({"again": 60.0, "tolerance": 50.0}, "came out as 60 where 100 was submitted"),
        ({"score": 60.0, "again": 60.0}, "was submitted with 100, not with 60"),
        ({"key": "0" * 64}, "is not among its cells"),
    ],
)
def test_a_report_that_says_more_than_was_run_gives_no_place(rerun, words, official, submit, board, record):
    mine = record("greedy", [1, 1, 1, 1])
    whole = {"key": mine.key, "score": 100.0, "again": 100.0, "tolerance": 0.5, "fault": None}
    submit("jane", [mine], changes={"badge": "verified", "reruns": [whole]})
    assert board().faults == ()
    submit("jane", [mine], changes={"badge": "verified", "reruns": [whole | rerun]})
    assert words in board().faults[0]
    submit("jane", [mine], changes={"badge": "verified", "reruns": [whole, whole]})
    assert "counts a cell twice" in board().faults[0]


@pytest.mark.parametrize("content", [None, "", "[]", '{"badge": NaN}', "{" * 100_000, '{"a": 1, "a": 1}'])
def test_an_archive_without_a_report_is_a_fault_and_no_exception(content, official, submit, board, record):
    report = Path(str(submit("jane", [record("greedy", [1, 1, 1, 1])])).replace(".zip", ".check.json"))
    if content is None:
        report.unlink()
    else:
        report.write_text(content)
    assert "its check report" in board().faults[0]
    assert len(board().records) == len(official)


def test_an_archive_that_was_changed_after_its_check_has_no_place(official, submit, board, record):
    path = submit("jane", [record("greedy", [1, 0, 1, 1])])
    assert read_submission(path).submitter == "jane"
    path.write_bytes(pack([record("greedy", [1, 1, 1, 1])], Submitter("jane")))
    assert "is of another archive" in board().faults[0]
    path.write_bytes(b"no zip")
    assert "not a zip file" in board().faults[0]


def test_the_site_shows_badges_submitters_and_faults_and_the_same_bytes(official, submit, tmp_path, record):
    mine = record("greedy", [1, 1, 1, 1])
    submit("jane", [mine], again=[mine])
    submit("john", [record("fisher", [1, 1, 1, 0])])
    submit("mallory", [record("tpe", [1, 1, 1, 0])], changes={"badge": "official"})
    page = build_site(tmp_path / "results", tmp_path / "site", tmp_path / "submissions").read_text()
    for words in ('class="badge official"', 'class="badge verified"', 'class="badge self-reported"', "jane.zip"):
        assert words in page
    assert "mallory.zip: its check report says" in page
    cells = (tmp_path / "site" / "cells.html").read_text()
    assert 'from <a href="index.html#submissions">jane.zip</a> of jane' in cells
    again = build_site(tmp_path / "results", tmp_path / "again", tmp_path / "submissions").read_text()
    assert again == page
    own = build_site(tmp_path / "results", tmp_path / "own").read_text()
    assert 'class="badge official"' not in own
