"""Pareto fronts: against the definition, never with a row that is not complete, and with labels that can be read."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.build import build_site
from leaderboard.comparing import compare
from leaderboard.views.chart import BOTTOM, LEFT, PLOT_HEIGHT, PLOT_WIDTH
from leaderboard.views.pareto import model_fronts
from leaderboard.views.scatter import Point, front, place_labels, scatter

GOOD, FAIR, POOR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20, [1] * 60 + [0] * 40


def points_of(*values):
    return [Point(f"m{i}", "other", cost, score, "") for i, (cost, score) in enumerate(values)]


def rounded(value):
    return round(value, 6)


# Few values, so that costs and scores are often equal.
pairs = st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float))


@given(st.lists(pairs, max_size=12))
def test_the_front_is_all_that_nothing_beats(values):
    def beats(one, other):
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    expected = {i for i, point in enumerate(values) if not any(beats(other, point) for other in values)}
    found = front(points_of(*values))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [values[i] for i in found] == sorted(values[i] for i in found)


@given(st.lists(st.tuples(st.floats(0, 1e6).map(rounded), st.floats(-50, 100).map(rounded)), min_size=1, max_size=12))
def test_the_front_is_always_drawn_and_half_of_the_points_with_it(values):
    drawn = scatter(points_of(*values), "Cost", "Score")
    assert drawn.best == tuple(front(points_of(*values)))
    assert len(drawn.marks) + drawn.hidden == len(values)
    assert 2 * len(drawn.marks) >= len(values)
    assert sum(mark.best for mark in drawn.marks) == len(drawn.best)
    assert all(LEFT <= mark.x <= PLOT_WIDTH and 0 <= mark.y <= PLOT_HEIGHT - BOTTOM for mark in drawn.marks)


def test_the_line_goes_in_steps_along_the_best_score_for_each_cost():
    drawn = scatter(points_of((1.0, 10.0), (2.0, 20.0), (2.0, 15.0)), "Cost", "Score")
    corners = [tuple(map(float, corner.split(","))) for corner in drawn.front.split()]
    # The drawing's sides are at 80 and 544; scores go from 256 at the bottom to 12 at the top.
    assert corners == [(80, 256), (544, 256), (544, 12), (544, 12)]


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=20), st.floats(90, 540), st.floats(20, 250)), max_size=10))
def test_labels_overlap_neither_each_other_nor_a_point(named):
    def box(label):
        width = 7.2 * len(label.text)
        left = label.x - {"start": 0, "middle": width / 2, "end": width}[label.anchor]
        return left, label.y - 11, left + width, label.y + 3

    def apart(one, other):
        return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]

    labels = place_labels(named, [(x, y) for _, x, y in named])
    assert all(apart(box(one), box(other)) for one, other in combinations(labels, 2))
    marks = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in named]
    assert all(apart(box(label), mark) for label, mark in product(labels, marks))
    assert all(box(label)[0] >= LEFT and box(label)[2] <= PLOT_WIDTH for label in labels)


def test_a_point_alone_is_labelled():
    (label,) = place_labels([("dqss", 300.0, 100.0)], [(300.0, 100.0)])
    assert (label.text, label.y < 100) == ("dqss", True)


def test_only_complete_rows_are_on_a_front(record):
    def sized(*args, size, **facts):
        return record(*args, **facts).model_copy(update={"size_bytes": size, "bops": size})

    (comparison,) = compare(
        [
            sized("best-uniform", FAIR, size=1000),
            sized("dqss", GOOD, size=1000, seed=0),
            sized("uniform-mse", POOR, size=1000),
            # More bits, no better; and the best of all with a seed that failed.
            sized("best-uniform", FAIR, size=2000, bits="W8A8"),
            sized("tpe", [1] * 100, size=1000, seed=0),
            sized("tpe", None, size=None, seed=1, status="failed", reason="no memory"),
        ]
    )
    # Only one seed of DQSS is asked for once TPE has two.
    fronts = model_fronts(comparison, "resnet8")
    size = fronts.network[0]
    assert "tpe" not in {row.method for _, row in size.rows}
    assert {(board.bits, row.method) for board, row in size.rows} == {("W4A4", "best-uniform")}
    assert size.count == 3


def test_search_cost_is_drawn_for_each_bit_width_and_of_all_seeds(record):
    records = [record("best-uniform", FAIR, bits=bits) for bits in ("W4A4", "W8A8")]
    slow = [record("dqss", GOOD, seed=seed).model_copy(update={"search_seconds": 4.0 + 2 * seed}) for seed in (0, 1)]
    (comparison,) = compare([*records, *slow])
    fronts = model_fronts(comparison, "resnet8")
    # These records hold neither size nor bit operations.
    assert fronts.network == ()
    assert [(figure.where, figure.cost.name) for figure in fronts.search] == [
        ("resnet8 at W4A4", "search time"),
        ("resnet8 at W4A4", "forward passes"),
        ("resnet8 at W8A8", "search time"),
        ("resnet8 at W8A8", "forward passes"),
    ]
    time = fronts.search[0]
    assert [row.method for _, row in time.rows] == ["best-uniform", "dqss"]
    assert "dqss at W4A4: 90.00, Search (s) 5.0" in {mark.told for mark in time.scatter.marks}
    assert [(board.bits, row.method, names) for board, row, names in fronts.best()] == [
        ("W4A4", "dqss", ["search time", "forward passes"]),
        ("W4A4", "best-uniform", ["search time"]),
        ("W8A8", "best-uniform", ["search time", "forward passes"]),
    ]


@pytest.mark.parametrize("status", ["ok", "skipped"])
def test_the_page_says_what_it_cannot_show(tmp_path, cell, status):
    cell("dqss", GOOD if status == "ok" else None, status=status, reason=None if status == "ok" else "no data")
    build_site(tmp_path, tmp_path / "site")
    (page,) = (tmp_path / "site" / "pareto").iterdir()
    text = page.read_text()
    assert "Latency: not shown." in text
    assert ("No method is complete here." in text) == (status == "skipped")
