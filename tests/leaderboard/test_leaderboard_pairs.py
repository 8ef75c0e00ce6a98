"""How sure the differences of all pairs are, against numbers worked out by hand, the bootstrap, and a known truth."""

from __future__ import annotations

import math

import numpy
import pytest

from leaderboard.comparing import compare
from leaderboard.pairs import pairs_of, standard_errors
from leaderboard.statistics import Sample, gain_over


def sample(outcomes, *, hits=False, images=("photos",)):
    """A method whose seeds (rows) have these outcomes."""
    seeds = numpy.atleast_2d(numpy.array(outcomes, dtype=float))
    scores = tuple(float(score) for score in seeds.mean(axis=1))
    return Sample(float(seeds.mean()), scores, seeds.mean(axis=0), images, hits)


def test_the_error_of_a_difference_is_that_of_its_mean_over_images():
    pairs = pairs_of({"a": sample([5.0, 3.0, 4.0, 4.0]), "b": sample([4.0, 4.0, 4.0, 2.0])})
    # Differences 1, -1, 0, 2: mean 0.5, squares about it 5, variance 5/3, of the mean 5/12.
    assert pairs.margin("a", "b") == pytest.approx(1.959964 * math.sqrt(5 / 12), abs=1e-6)
    assert pairs.margin("b", "a") == pairs.margin("a", "b")


def test_seeds_add_their_variance_over_their_number():
    # On every image seed 0 has 3 and seed 1 has 5, so images add nothing: 2 / 2 for a, 8 / 2 for b.
    first, second = sample([[3.0] * 4, [5.0] * 4]), sample([[1.0] * 4, [5.0] * 4])
    assert standard_errors([first, second])[0, 1] == pytest.approx(math.sqrt(1 + 4))
    assert standard_errors([first, sample([2.0] * 4)])[0, 1] == pytest.approx(1.0)


def test_all_pairs_have_what_each_pair_has_alone():
    generator = numpy.random.default_rng(0)
    ease = generator.normal(30, 5, size=80)
    samples = [
        sample(ease + generator.normal(scale=0.1 * (i + 1), size=(seeds, 80))) for i, seeds in enumerate((1, 3, 2))
    ]
    errors = standard_errors(samples)
    for i, mine in enumerate(samples):
        for j, other in enumerate(samples[:i]):
            spread = numpy.std(mine.outcomes - other.outcomes, ddof=1) ** 2 / 80
            spread += sum(numpy.var(one.seeds, ddof=1) / len(one.seeds) for one in (mine, other) if len(one.seeds) > 1)
            assert errors[i, j] == pytest.approx(math.sqrt(spread), rel=1e-9)


def test_equal_methods_leave_no_doubt():
    assert pairs_of({"a": sample([1.5, 2.0, 7.25]), "b": sample([1.5, 2.0, 7.25])}).margin("a", "b") == 0


def test_only_methods_of_the_same_images_pair():
    pairs = pairs_of(
        {
            "a": sample([1.0, 2.0]),
            "other images": sample([1.0, 2.0], images=("others",)),
            "more images": sample([1.0, 2.0, 3.0]),
            "hits": sample([0.0, 100.0], hits=True),
            "without outcomes": Sample(1.5, (1.5,), None, ("photos",), False),
            "b": sample([2.0, 4.0]),
        }
    )
    paired = [(i, j) for i, row in enumerate(pairs.margins) for j, margin in enumerate(row) if margin is not None]
    assert paired == [(5, 0)]
    assert pairs.margin("a", "hits") is None
    assert pairs.margin("a", "a") is None
    assert pairs.margin("a", "unknown") is None


@pytest.mark.parametrize(
    ("images", "hits", "seeds"), [(500, True, 1), (500, True, 3), (100, False, 1), (100, False, 2)]
)
def test_it_agrees_with_the_bootstrap(images, hits, seeds):
    generator = numpy.random.default_rng(1)
    ease = generator.normal(size=images)
    samples = {}
    for name, skill in (("a", 0.2), ("b", 0.0), ("c", -0.3)):
        found = (
            ease
            + skill
            + generator.normal(scale=0.5, size=(seeds, images))
            + generator.normal(scale=0.1, size=(seeds, 1))
        )
        samples[name] = sample(100.0 * (found > -1) if hits else found, hits=hits)
    pairs = pairs_of(samples)
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        interval = gain_over(samples[first], samples[second]).interval
        margin = pairs.margin(first, second)
        assert interval is not None
        assert (interval.high - interval.low) / 2 == pytest.approx(margin, rel=0.06)


def test_an_interval_of_500_images_holds_the_truth_in_95_of_100_cases():
    generator = numpy.random.default_rng(2)
    cases, held = 1000, 0
    for _ in range(cases):
        # An image is right for both, or for one of them alone in 9 and 6 cases of 100: the truth is 3 points.
        kind = generator.uniform(size=500)
        pairs = pairs_of(
            {
                "a": sample(100.0 * (kind < 0.85), hits=True),
                "b": sample(100.0 * ((kind < 0.76) | (kind > 0.94)), hits=True),
            }
        )
        difference = 100.0 * float((kind < 0.85).mean() - ((kind < 0.76) | (kind > 0.94)).mean())
        held += abs(difference - 3) <= pairs.margin("a", "b")
    assert 100 * held / cases == pytest.approx(95, abs=2)


def test_a_board_knows_the_pairs_of_its_complete_methods(record):
    good, fair = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20
    (comparison,) = compare(
        [
            record("best-uniform", fair),
            record("dqss", good, seed=0),
            record("random", good, seed=0),
            record("tpe", None, seed=0, status="failed", reason="no memory"),
        ]
    )
    pairs = comparison.boards[0].pairs
    assert set(pairs.methods) == {"best-uniform", "dqss", "random"}
    # Ten of a hundred differ, all one way: variance 100 * 100 * (0.1 - 0.01) * 100 / 99.
    assert pairs.margin("dqss", "best-uniform") == pytest.approx(1.959964 * math.sqrt(900 / 99), abs=1e-5)
    assert pairs.margin("dqss", "random") == 0
