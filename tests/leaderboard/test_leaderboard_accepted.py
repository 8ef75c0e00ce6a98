"""What accepted submissions add to the official records, and that they take nothing away."""

from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.records import write_record
from benchmarks.submission import Submitter, pack
from benchmarks.submission_report import Rerun, Verdict
from leaderboard.accepted import index_of_board, read_submission
from leaderboard.badges import ORDER, weakest
from leaderboard.build import build_site
from leaderboard.comparing import compare
from leaderboard.load import index_of, origins_of, read_whole

DASH = "\N{EN DASH}"
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


def read(results, index):
    """Return all that an index tells of."""
    records, faults = read_whole(results, index.entries)
    return SimpleNamespace(
        records=records,
        origins=origins_of(index.entries),
        faults=tuple(fault.words for fault in (*index.faults, *faults)),
        submissions=index.submissions,
    )


@pytest.fixture
def board(tmp_path):
    def load_it():
        return read(tmp_path / "results", index_of_board(tmp_path / "results", tmp_path / "submissions"))

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
    assert [(one.archive, one.again, one.shown) for one in loaded.submissions] == [
        ("jane.zip", 1, 1),
        ("john.zip", 0, 1),
    ]


def test_somebodys_own_folder_has_no_badges(official, tmp_path):
    assert set(badges(read(tmp_path / "results", index_of(tmp_path / "results"))).values()) == {None}


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
    assert submission.shown == 0


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


def bytes_of(site):
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in sorted(site.rglob("*")) if path.is_file()}


@pytest.fixture
def build(tmp_path):
    """Build the public board, and return its folder."""

    def build_it(name="site", **options):
        return build_site(tmp_path / "results", tmp_path / name, submissions=tmp_path / "submissions", **options).parent

    return build_it


def page_of(site, beginning):
    """Return the words and the markup of the one page whose path begins so."""
    (found,) = site.glob(f"{beginning}*.html")
    markup = found.read_text()
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split()), markup


def test_the_site_shows_badges_submitters_and_faults(official, submit, build, tmp_path, record):
    mine = record("greedy", [1, 1, 1, 1])
    submit("jane", [mine], again=[mine])
    submit("john", [record("fisher", [1, 1, 1, 0])])
    submit("mallory", [record("tpe", [1, 1, 1, 0])], changes={"badge": "official"})
    site = build()
    _, cell = page_of(site, "cells/")
    for badge in ("official", "verified", "self-reported"):
        assert f'class="badge {badge}"' in cell
    assert 'from <a href="../about.html#submissions">jane.zip</a> of jane' in cell
    words, board = page_of(site, "boards/")
    assert '<th scope="col" data-filter>Badge</th>' in board
    for row in ("greedy verified 1.00", f"fisher self-reported {DASH}"):
        assert row in words
    first, _ = page_of(site, "index")
    assert "demo official" in first
    about, markup = page_of(site, "about")
    assert 'id="submissions"' in markup
    assert "john self-reported 1 1 0 2026-03-01 john.zip" in about
    assert "mallory.zip: its check report says" in about
    own = build_site(tmp_path / "results", tmp_path / "own").parent
    assert not [path for path, content in bytes_of(own).items() if b"badge official" in content or b"Badge" in content]


def test_a_self_reported_row_has_score_and_gain_and_no_place_on_any_page(official, submit, build, record):
    mine = record("fisher", [1, 1, 1, 1])
    submit("john", [mine.model_copy(update={"size_bytes": 9, "bops": 9})])
    site = build()
    words, _ = page_of(site, "cells/")
    assert "fisher self-reported shown beside the others, not ranked +50.00" in words
    words, _ = page_of(site, "boards/")
    assert f"fisher self-reported {DASH} {DASH} {DASH} +50.00 {DASH} not ranked" in words
    assert re.search(r"fisher resnet8 W4A4 100\.00 \+10\.00 \+50\.00 \S+ to \S+ 0\.500 not ranked 1 ", words)
    for page in ("compare/", "pareto/"):
        words, markup = page_of(site, page)
        assert "fisher" not in markup
        assert "self-reported results beside others" in words.lower()
    words, _ = page_of(site, "methods/ptq-fisher")
    assert "not ranked 2.0 complete self-reported" in words
    assert "0 wins, 0 ties, 0 losses against the best uniform strategy; complete in 1 of 1 cell" in words
    assert "best: random" in page_of(site, "index")[0]


def test_dqss_itself_wins_nothing_while_it_is_self_reported(official, submit, build, record):
    submit("john", [record("dqss", [1, 1, 1, 1], seed=seed) for seed in (0, 1)])
    site = build()
    assert "Not judged, not ranked: resnet8" in page_of(site, "index")[0]
    words, _ = page_of(site, "cells/")
    assert "DQSS's result here is self-reported: it is shown, and wins nothing beside results that are not." in words
    assert "dqss is self-reported." in page_of(site, "boards/")[0]


def test_a_damaged_official_file_leaves_no_board_to_self_reported_results(tmp_path, official, submit, build, record):
    other = record("best-uniform", [1, 0, 1, 0], bits="W8A8")
    path = write_record(tmp_path / "results", other)
    submit("john", [record("fisher", [1, 1, 1, 1], bits="W8A8")])
    path.write_text(path.read_text().replace('"search_seconds": 2.0', '"search_seconds": 3.0'))
    site = build()
    # Of the file only the end tells that it is no record; its board is among official ones all the same.
    words, _ = page_of(site, "cells/demo-fashion-mnist-resnet8-w8a8")
    assert "fisher self-reported shown beside the others, not ranked" in words
    assert f"{other.key}.json" in page_of(site, "about")[0]


def test_the_public_board_has_the_same_bytes_for_any_number_of_processes(
    tmp_path, official, submit, build, record, monkeypatch
):
    for bits in ("W8A8", "W3A3"):
        for method, seed in (("best-uniform", None), ("random", 0), ("random", 1)):
            write_record(tmp_path / "results", record(method, [1, 0, 1, 0], bits=bits, seed=seed))
    mine = [record("greedy", [1, 1, 1, 1], bits=bits) for bits in ("W4A4", "W8A8")]
    submit("jane", mine, again=mine[:1])
    submit("john", [record("fisher", [1, 1, 1, 0], bits=bits) for bits in ("W4A4", "W3A3")])
    submit("joan", [record("best-uniform", [1, 1, 0, 0], suite="other"), record("dqss", [1, 1, 1, 0], suite="other")])
    # A board at a time.
    monkeypatch.setattr("leaderboard.build.WORTH", 1)
    alone, two = build("alone", processes=1), build("two", processes=2)
    assert bytes_of(alone) == bytes_of(two)
    assert len(bytes_of(alone)) > 10
