"""Standings worked out by hand, and against a plain loop over resamples."""

from __future__ import annotations

import numpy
import pytest
import scipy.stats

from leaderboard.standings import BOOTSTRAP_SEED, RESAMPLES, Tally, cell_of
from leaderboard.statistics import Sample


def sample(*seeds: list[float], images: str = "test", hits: bool = True) -> Sample:
    """Return a method's sample from the outcomes of each seed."""
    outcomes = numpy.mean(seeds, axis=0)
    scores = tuple(float(numpy.mean(seed)) for seed in seeds)
    return Sample(float(outcomes.mean()), scores, outcomes, (images,), hits)


def hits(share: float) -> Sample:
    return sample([100.0] * int(10 * share) + [0.0] * (10 - int(10 * share)))


def tallied(names: list[str], *cells: dict[str, Sample]) -> Tally:
    """Return the tally of these cells."""
    tally = Tally(names)
    for cell in map(cell_of, cells):
        if cell is not None:
            tally.add(cell)
    return tally


def test_a_method_that_is_not_complete_in_a_cell_shares_its_last_ranks_and_belongs_to_no_group():
    whole, part = {"a": hits(0.9), "b": hits(0.8), "c": hits(0.7)}, {"a": hits(0.6), "c": hits(0.5)}
    tally = tallied(["a", "b", "c", "d"], whole, part, {})
    found = tally.standings({"a": 2, "c": 0})
    assert found is not None
    # A cell without any result counts for nothing, and d, which has none, neither.
    places = [(place.method, place.rank, place.cells, place.wins, place.group) for place in found.places]
    assert places == [("a", 1.0, 2, 2, "a"), ("b", 2.5, 1, None, ""), ("c", 2.5, 2, 0, "a")]
    assert (found.cells, found.tested, found.friedman) == (2, 2, None)
    assert found.difference == pytest.approx(2.343, abs=1e-3)
    # The last rank is 3 in resamples too, as d does not count.
    assert found.places[1].interval is not None
    assert found.places[1].interval.high <= 3


def test_three_complete_methods_have_the_friedman_test_of_scipy():
    scores = {"a": (0.9, 0.8, 0.7, 0.9), "b": (0.8, 0.7, 0.8, 0.5), "c": (0.3, 0.2, 0.4, 0.4)}
    cells = [{name: hits(values[cell]) for name, values in scores.items()} for cell in range(4)]
    found = tallied(list(scores), *cells).standings({})
    assert found is not None
    assert found.friedman == pytest.approx(scipy.stats.friedmanchisquare(*scores.values()).pvalue)


def test_the_interval_of_a_rank_is_that_of_a_plain_loop_over_resamples():
    generator = numpy.random.default_rng(5)
    names = ["none", "one", "three", "other", "part"]
    cells = []
    for _ in range(2):
        draws = [[100.0 * (generator.uniform(size=30) < 0.6) for _ in range(seeds)] for seeds in (1, 3, 1, 1)]
        cells.append({name: sample(*seeds) for name, seeds in zip(names[1:], draws, strict=True)})
    del cells[1]["part"]
    found = tallied(names, *cells).standings({})
    assert found is not None
    resamples = numpy.random.default_rng(BOOTSTRAP_SEED)
    means = []
    for _ in range(RESAMPLES):
        chosen = resamples.integers(30, size=30)
        scores = [[cell[name].outcomes[chosen].mean() if name in cell else -1 for name in names[1:]] for cell in cells]
        means.append(scipy.stats.rankdata(-numpy.round(scores, 6), axis=1).mean(axis=0))
    low, high = numpy.percentile(means, [2.5, 97.5], axis=0)
    intervals = {place.method: place.interval for place in found.places}
    for i, name in enumerate(names[1:]):
        assert (intervals[name].low, intervals[name].high) == pytest.approx((low[i], high[i]))


@pytest.mark.parametrize("change", [{"images": "others"}, {"hits": False}])
def test_what_does_not_pair_has_ranks_without_intervals(change):
    odd = {"a": sample([100.0] * 10), "b": sample([0.0] * 10, **change)}
    tally = tallied(["a", "b"], {"a": hits(0.5), "b": hits(0.6)}, odd)
    found = tally.standings({})
    assert found is not None
    assert [(place.rank, place.interval) for place in found.places] == [(1.5, None), (1.5, None)]


def test_a_cell_with_one_complete_method_ranks_nobody():
    found = tallied(["a", "b", "c"], {"a": hits(0.5), "b": hits(0.6)}, {"a": hits(0.9)}, {"c": hits(0.9)}).standings({})
    assert found is not None
    assert found.cells == 1
    assert [(place.method, place.rank, place.cells) for place in found.places] == [("b", 1.0, 1), ("a", 2.0, 1)]


def test_without_any_complete_cell_nobody_stands():
    assert tallied(["a"], {}).standings({}) is None
