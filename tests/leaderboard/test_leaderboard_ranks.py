"""Ranks against Demsar's published example, scipy and data without any difference."""

from __future__ import annotations

import numpy
import pytest
import scipy.stats

from leaderboard.ranks import critical_difference, friedman, ranks, tie_groups

# Demsar, JMLR 7 (2006), table 6: AUC of C4.5 without tuning, with m, with cf and with both on 14 data sets. Of `voting`
# the paper ranks two apart that it prints as 0.975.
DEMSAR = numpy.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9752, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_average_ranks_and_friedman_agree_with_demsar():
    average = ranks(DEMSAR).mean(axis=0)
    assert average == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # His statistic, without the correction for ties.
    assert 12 * 14 / (4 * 5) * ((average**2).sum() - 4 * 5**2 / 4) == pytest.approx(9.28, abs=0.005)
    assert friedman(DEMSAR) == pytest.approx(scipy.stats.friedmanchisquare(*DEMSAR.T).pvalue)


@pytest.mark.parametrize(
    ("methods", "value"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_differences_are_of_demsars_table_5(methods, value):
    assert critical_difference(methods, 14) == pytest.approx(
        value * (methods * (methods + 1) / (6 * 14)) ** 0.5, abs=2e-3
    )


def test_the_example_has_one_group_at_five_percent_and_two_at_ten():
    # Demsar has 1.25 at 5 %: "not powerful enough" for 3.143 - 1.964 = 1.18.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert tie_groups([1.964, 2.000, 2.893, 3.143], critical_difference(4, 14)) == ["a"] * 4
    assert tie_groups([1.964, 2.000, 2.893, 3.143], 1.12) == ["a", "a", "ab", "b"]


def test_friedman_on_cells_where_all_are_equal_finds_nothing():
    assert friedman(numpy.ones((5, 4))) == 1.0


def test_missing_scores_share_the_last_ranks_and_never_win():
    found = ranks(numpy.array([[-5.0, numpy.nan, numpy.nan, 3.0]]))
    assert found.tolist() == [[2.0, 3.5, 3.5, 1.0]]


def test_ranks_of_scores_that_differ_by_rounding_alone_are_equal():
    assert ranks(numpy.array([[0.1 + 0.2, 0.3]])).tolist() == [[1.5, 1.5]]


def test_equal_ranks_share_all_their_groups():
    assert tie_groups([1.0, 1.0, 3.0, 3.0], 1.0) == ["a", "a", "b", "b"]
    assert tie_groups([2.0, 2.0], 0.0) == ["a", "a"]
    assert tie_groups([], 1.0) == []


def test_without_any_difference_nemenyi_tells_two_apart_in_five_percent_of_cases_at_most():
    generator = numpy.random.default_rng(0)
    boards, cells, methods = 1000, 15, 8
    placed = ranks(generator.normal(size=(boards * cells, methods))).reshape(boards, cells, methods).mean(axis=1)
    wrong = (numpy.ptp(placed, axis=1) >= critical_difference(methods, cells)).mean()
    assert wrong < 0.05 + 3 * (0.05 * 0.95 / boards) ** 0.5
