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


def test_seeds_widen_an_interval_by_what_they_spread():
    differences = numpy.random.default_rng(3).normal(2.0, 1.0, size=400)
    seeds = (1.8, 2.1, 2.0, 2.3, 1.8)
    error = numpy.hypot(differences.std() / 20, numpy.std(seeds, ddof=1) / numpy.sqrt(5))
    found = bootstrap_interval(differences, None, [seeds, (7.0,), (3.0, 3.0)])
    # One seed, or two that are alike, add nothing.
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)
    assert bootstrap_interval(differences, None, [(7.0,)]) == bootstrap_interval(differences)


def test_seeds_and_images_are_resampled_as_if_by_drawing_both():
    generator = numpy.random.default_rng(4)
    hits = 100.0 * (generator.uniform(size=(3, 200)) < [[0.55], [0.6], [0.7]])
    differences, scores = hits.mean(axis=0) - 50, hits.mean(axis=1)
    images = differences[generator.integers(200, size=(20_000, 200))].mean(axis=1)
    departures = (scores - scores.mean())[generator.integers(3, size=(20_000, 3))].mean(axis=1)
    low, high = numpy.percentile(images + departures * 1.5**0.5, [2.5, 97.5])
    found = bootstrap_interval(differences, 100 / 6, [tuple(scores)])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.25)


def test_seeds_that_differ_where_no_image_does_are_not_lost():
    found = bootstrap_interval(numpy.full(50, 1.0), None, [(0.0, 2.0)])
    assert (found.low, found.high) == pytest.approx((1 - 2**0.5, 1 + 2**0.5), abs=0.02)


def test_a_collapsed_seed_makes_a_wide_interval_in_little_memory():
    found = bootstrap_interval(numpy.random.default_rng(0).normal(size=10_000), None, [(10.0, 90.0, 91.0)])
    assert found.high - found.low > 50


@pytest.mark.parametrize(("images", "unit"), [(300, 100.0), (60, None)])
def test_nineteen_of_twenty_intervals_hold_the_true_difference(images, unit):
    generator = numpy.random.default_rng(1)
    draw = {
        100.0: lambda: generator.choice([100.0, -100.0, 0.0], p=[0.08, 0.05, 0.87], size=images),
        None: lambda: generator.normal(3.0, 5.0, size=images),
    }[unit]
    found = [bootstrap_interval(draw(), unit) for _ in range(600)]
    held = numpy.mean([interval.low <= 3.0 <= interval.high for interval in found])
    # Three standard errors of a share of 95 % among 600.
    assert abs(held - 0.95) < 0.027
