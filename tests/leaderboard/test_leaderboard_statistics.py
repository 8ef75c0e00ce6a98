"""Gains and intervals against numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy
import pytest

from leaderboard.statistics import Gain, Interval, bootstrap_interval, gain_over, mean_gain, sample_of


def test_a_gain_is_the_difference_of_means_over_seeds(record):
    seeds = [record("dqss", [1, 1, 1, 0], seed=0), record("dqss", [1, 1, 1, 1], seed=1)]
    bar = [record("best-uniform", [1, 1, 0, 0])]
    gain = gain_over(sample_of(seeds), sample_of(bar))
    assert gain.value == pytest.approx((75 + 100) / 2 - 50)
    assert gain.images == 4


def test_equal_differences_leave_no_doubt():
    assert bootstrap_interval(numpy.full(7, 2.5)) == Interval(2.5, 2.5)


def test_the_interval_agrees_with_the_enumeration_of_all_resamples():
    differences = numpy.array([0.0, 0.0, 100.0, -100.0, 100.0, 0.0])
    # All 6^6 resamples, each as likely as any other: the distribution that the draws are taken from.
    means = [numpy.mean(differences[list(chosen)]) for chosen in product(range(6), repeat=6)]
    low, high = numpy.percentile(means, [2.5, 97.5])
    found = bootstrap_interval(differences, 100.0)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_the_interval_agrees_with_the_normal_approximation_for_many_images():
    differences = numpy.repeat([100.0, 0.0, -100.0], [700, 9000, 300])
    error = differences.std() / numpy.sqrt(len(differences))
    found = bootstrap_interval(differences)
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.03)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.03)


def test_many_distinct_differences_are_resampled_in_parts():
    differences = numpy.linspace(-1, 3, 800)
    error = differences.std() / numpy.sqrt(len(differences))
    found = bootstrap_interval(differences)
    assert found.low == pytest.approx(1 - 1.96 * error, abs=0.005)
    assert found.high == pytest.approx(1 + 1.96 * error, abs=0.005)


def test_pairing_makes_the_interval_narrower_than_the_spread_of_the_images(record):
    hits = [1, 0] * 500
    better = [1, 0] * 490 + [1, 1] * 10
    gain = gain_over(sample_of([record("dqss", better)]), sample_of([record("best-uniform", hits)]))
    # Ten images differ, all one way: about 1 point, sure to about 0.6; unpaired it would be sure to about 4.
    assert gain.value == pytest.approx(1.0)
    assert gain.interval is not None
    assert gain.interval.low > 0.3
    assert gain.interval.high < 1.8
    assert gain.verdict == "win"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.1, 0.5), "win"),
        (Interval(-0.5, -0.1), "loss"),
        (Interval(-0.1, 0.5), "tie"),
        (Interval(0.0, 0.0), "tie"),
        (None, "open"),
    ],
)
def test_a_verdict_says_on_which_side_of_zero_the_interval_lies(interval, verdict):
    assert Gain(0.2, interval, 4).verdict == verdict


@pytest.mark.parametrize(
    "other",
    [{"outcomes": [1, 1, 0]}, {"outcomes": None, "score": 50.0}, {"outcomes": [1, 1, 0, 0], "data": "other images"}],
)
def test_records_that_do_not_share_their_images_have_a_gain_but_no_interval(record, other):
    gain = gain_over(sample_of([record("dqss", [1, 1, 1, 0])]), sample_of([record("best-uniform", **other)]))
    assert gain.value > 0
    assert gain.interval is None
    assert gain.verdict == "open"


def test_the_mean_gain_resamples_an_image_for_all_models_at_once(record):
    bar = sample_of([record("best-uniform", [0, 0, 0, 0])])
    first, second = (sample_of([record("dqss", hits)]) for hits in ([1, 1, 0, 0], [0, 0, 1, 1]))
    # What one model gains on an image the other does not: together 50 points on every image, with no doubt at all.
    assert mean_gain([(first, bar), (second, bar)]) == Gain(50.0, Interval(50.0, 50.0), 4)
