"""Two methods against each other: who wins where, by which interval, and what the page's script is given."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from leaderboard.build import build_site
from leaderboard.comparing import compare
from leaderboard.views.compare import count_all, data_of, difference, methods_of

GOOD, FAIR, POOR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20, [1] * 60 + [0] * 40
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def comparison(record):
    """DQSS is ahead of random at W4A4, behind at W8A8, equal at W4A8; random failed at W2A2."""
    outcomes = {
        "W2A2": (GOOD, FAIR, None),
        "W4A4": (GOOD, FAIR, FAIR),
        "W4A8": (GOOD, FAIR, GOOD),
        "W8A8": (POOR, FAIR, FAIR),
    }
    records = []
    for bits, scores in outcomes.items():
        for method, found in zip(("dqss", "best-uniform", "random"), scores, strict=True):
            status = {} if found else {"status": "failed", "reason": "no memory"}
            records.append(record(method, found, bits=bits, seed=None if method == "best-uniform" else 0, **status))
    (made,) = compare(records)
    return made


def test_cells_are_counted_by_hand(comparison):
    methods = methods_of(comparison)
    assert methods == ["best-uniform", "random", "dqss"]
    counts = count_all(comparison, methods)
    found = [
        [count and (*(count.verdicts[name] for name in ("win", "tie", "loss")), count.cells) for count in row]
        for row in counts
    ]
    assert found == [
        [None, (0, 2, 1, 3), (1, 0, 3, 4)],
        [(1, 2, 0, 3), None, (1, 1, 1, 3)],
        [(3, 0, 1, 4), (1, 1, 1, 3), None],
    ]
    assert [count and count.lead for count in counts[2]] == ["win", "tie", None]


def test_against_the_bar_the_interval_is_the_boards_own_whichever_way(comparison):
    for board in comparison.boards:
        bar, mine = board.row("best-uniform"), board.row("dqss")
        gain = mine.gain
        assert difference(board, mine, bar) == gain
        back = difference(board, bar, mine)
        assert (back.value, back.interval.low, back.interval.high) == (
            -gain.value,
            -gain.interval.high,
            -gain.interval.low,
        )


def test_other_intervals_are_as_wide_as_the_pairs_say(comparison):
    board = next(board for board in comparison.boards if board.bits == "W4A4")
    found = difference(board, board.row("dqss"), board.row("random"))
    margin = board.pairs.margin("dqss", "random")
    assert (found.value, found.interval.low, found.interval.high) == (10.0, 10 - margin, 10 + margin)


def test_a_row_that_is_not_complete_is_compared_with_nobody(comparison):
    board = next(board for board in comparison.boards if board.bits == "W2A2")
    assert difference(board, board.row("dqss"), board.row("random")) is None
    assert difference(board, board.row("dqss"), board.row("tpe")) is None


def test_methods_without_paired_images_have_a_difference_and_no_verdict(record):
    (comparison,) = compare([record("dqss", GOOD, seed=0), record("random", None, seed=0, score=70.0)])
    (board,) = comparison.boards
    found = difference(board, board.row("dqss"), board.row("random"))
    assert (found.value, found.verdict) == (20.0, "open")


def test_the_data_tell_each_difference_as_the_page_does(comparison):
    data = data_of(comparison, methods_of(comparison))
    assert data["start"] == ["dqss", "best-uniform"]
    for i, j in product(range(3), repeat=2):
        for board, told in zip(comparison.boards, data["boards"], strict=True):
            found = difference(board, *(board.row(data["methods"][k]) for k in (i, j)))
            scores = told["scores"][i], told["scores"][j]
            if i == j or found is None:
                assert i == j or None in scores
                continue
            assert found.value == pytest.approx(scores[0] - scores[1])
            if told["bar"] == j:
                assert told["exact"][i] == [found.interval.low, found.interval.high]
            elif told["bar"] != i:
                margin = told["margins"][max(i, j)][min(i, j)]
                assert found.interval.high - found.value == pytest.approx(margin)


def test_hostile_names_stay_inside_the_data(tmp_path, cell):
    cell("dqss", GOOD, seed=0, model=HOSTILE)
    cell(HOSTILE, FAIR, model=HOSTILE)
    build_site(tmp_path, tmp_path / "site")
    (page,) = (tmp_path / "site" / "compare").iterdir()
    text = page.read_text()
    assert HOSTILE not in text
    block = re.search(r'<script type="application/json" id="compare-data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(block[1])
    assert data["methods"] == [HOSTILE, "dqss"]
    assert data["boards"][0]["model"] == HOSTILE
