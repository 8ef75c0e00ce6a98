"""Paired tests against textbooks, other libraries and data without any difference."""

from __future__ import annotations

from itertools import product

import numpy
import pytest
import scipy.stats

from leaderboard.significance import holm, mcnemar, wilcoxon


def discordant(better: int, worse: int, alike: int = 0) -> numpy.ndarray:
    return numpy.repeat([1.0, -1.0, 0.0], [better, worse, alike])


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (3, 3), (9, 2), (150, 86), (1100, 1000)])
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(better, worse):
    expected = scipy.stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(discordant(better, worse, 1000), 1.0) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_agrees_with_the_textbook_on_the_approval_of_a_prime_minister():
    # Agresti, Categorical Data Analysis, table 10.1: 150 and 86 changed their minds, z^2 = 17.36.
    approximate = scipy.stats.chi2.sf((150 - 86) ** 2 / (150 + 86), 1)
    assert approximate == pytest.approx(3.1e-5, abs=1e-6)
    assert mcnemar(discordant(150, 86, 1364), 1.0) == pytest.approx(approximate, rel=0.25)


def test_mcnemar_of_very_many_discordant_pairs_is_the_chi_square_test():
    p = mcnemar(discordant(2600, 2450), 1.0)
    assert p == pytest.approx(scipy.stats.chi2.sf(150**2 / 5050, 1))
    assert p == pytest.approx(scipy.stats.binomtest(2600, 5050).pvalue, abs=0.002)


def test_means_over_seeds_are_tested_by_all_flips_of_signs():
    differences = numpy.array([100, 100 / 3, -200 / 3, 200 / 3, 100, 100 / 3, 0])
    flips = numpy.array(list(product([-1, 1], repeat=7))) @ differences
    expected = (numpy.abs(flips) >= abs(differences.sum()) - 1e-9).mean()
    assert mcnemar(differences, 100 / 3) == pytest.approx(expected)


def test_wilcoxon_agrees_with_scipy_where_it_is_exact():
    differences = numpy.random.default_rng(0).normal(0.3, 1, size=40)
    assert wilcoxon(differences) == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue)


def test_wilcoxon_agrees_with_scipy_for_many_images_with_ties_and_zeros():
    differences = numpy.round(numpy.random.default_rng(1).normal(0.05, 1, size=400), 1)
    expected = scipy.stats.wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue
    assert wilcoxon(differences) == pytest.approx(expected)


def test_wilcoxon_with_ties_and_zeros_is_the_share_of_all_flips():
    differences = numpy.array([0.0, 0.5, 0.5, -0.5, 1.0, 2.0, 2.0])
    # Pratt: the zero has rank 1, the halves 3 each, then 5, and 6.5 twice.
    signed = numpy.array([0, 3, 3, -3, 5, 6.5, 6.5])
    flips = numpy.array(list(product([-1, 1], repeat=7))) @ signed
    assert wilcoxon(differences) == pytest.approx((numpy.abs(flips) >= signed.sum()).mean())


def test_wilcoxon_rejects_in_the_example_of_demsar():
    # JMLR 7 (2006), table 2: C4.5 without and with the parameter m; T = 12 is below the critical value 21 for N = 14.
    without = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957]
    tuned = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]
    assert 0.001 < wilcoxon(numpy.subtract(tuned, without)) < 0.05


def test_no_difference_at_all_is_no_evidence():
    assert mcnemar(numpy.zeros(10), 1.0) == 1.0
    assert wilcoxon(numpy.zeros(10)) == 1.0


def test_holm_steps_down_and_never_swaps_an_order():
    # By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 alone, which stays behind the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_without_any_difference_a_board_of_fifteen_cells_shows_one_in_five_percent_of_cases_at_most():
    generator = numpy.random.default_rng(2)
    boards, cells, images = 400, 15, 60
    # Half of the cells hold hits of three seeds against one, half scores.
    hard = generator.uniform(size=(boards, cells, images))
    mine = generator.binomial(3, hard) / 3 - generator.binomial(1, hard)
    scores = generator.laplace(size=(boards, cells, images))
    wrong = 0
    for board in range(boards):
        p_values = [mcnemar(mine[board, cell], 1 / 3) for cell in range(8)]
        p_values += [wilcoxon(scores[board, cell]) for cell in range(8, cells)]
        wrong += min(holm(p_values)) < 0.05
    # Three standard errors of a share of 5 % among so many boards.
    assert wrong / boards < 0.05 + 3 * (0.05 * 0.95 / boards) ** 0.5
