"""How methods stand over all cells of a comparison: average ranks, how sure they are, and who is told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy

from leaderboard.ranks import Floats, critical_difference, friedman, ranks, tie_groups
from leaderboard.statistics import LEVEL, Interval, Sample

RESAMPLES = 500
BOOTSTRAP_SEED = 0

# Images whose counts are near at hand.
NEAR = 128

Numbers = numpy.ndarray[Any, numpy.dtype[Any]]


@dataclass(frozen=True)
class Ranked:
    """One method among all.

    Args:
        rank: the average over all cells that count; 1 is the best of each.
        interval: of the rank, as far as the choice of test images decides; None where a cell's images do not pair, or
            cells have other images than others.
        cells: in how many of these it is complete; in each other one it shares the last ranks.
        wins: in how many its gain over the bar is a win; None for the bar.
        group: letters of its tie groups; empty where it is not complete in all cells, or nothing is tested.
    """

    method: str
    rank: float
    interval: Interval | None
    cells: int
    wins: int | None
    group: str


@dataclass(frozen=True)
class Standings:
    """All methods that are complete in one cell that counts at least, the best average rank first.

    Args:
        cells: how many count: those where two methods or more are complete.
        tested: how many methods are complete in all of them. The tests are among these: a cell that never ran is no
            evidence that a method is worse.
        friedman: p-value of these methods being alike; None for fewer than three methods or two cells.
        difference: Nemenyi's critical difference of average ranks, for as many methods as there are places; None for
            fewer than two tested methods or cells.
    """

    places: tuple[Ranked, ...]
    cells: int
    tested: int
    friedman: float | None
    difference: float | None


@dataclass(frozen=True)
class Cell:
    """What the standings need of one cell: scores and resampled ranks, not its images.

    Args:
        scores: of the methods that are complete in it, in the order of the alphabet.
        images: what tells which test images these are, and how many.
        resampled: (K, RESAMPLES) the rank of each of these methods in each resample; None where they do not pair.
    """

    scores: dict[str, float]
    images: tuple[object, ...]
    resampled: Numbers | None


def cell_of(samples: Mapping[str, Sample]) -> Cell | None:
    """Return what a cell adds to the standings; None for a cell with fewer than two methods, which ranks nobody.

    Args:
        samples: the methods that are complete in it.
    """
    if len(samples) < 2:
        return None
    methods = sorted(samples)
    first = samples[methods[0]]
    images = (*first.images, 0 if first.outcomes is None else len(first.outcomes))
    resampled: Numbers | None = None
    if all(one.pairs_with(first) for one in samples.values()):
        sums = _resampled_scores([samples[method] for method in methods])
        resampled = ranks(sums.T).T.astype(numpy.float32)
    return Cell({method: samples[method].score for method in methods}, images, resampled)


class Tally:
    """Collects cells one by one, and keeps of each only its scores."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = list(methods)
        self._scores: list[Floats] = []
        self._resampled: Floats | None = None
        self._images: tuple[object, ...] | None = None
        self._paired = True

    def add(self, cell: Cell) -> None:
        """Count a cell."""
        places = [self._methods.index(method) for method in cell.scores]
        scores = numpy.full(len(self._methods), numpy.nan)
        scores[places] = list(cell.scores.values())
        self._scores.append(scores)
        self._images = self._images or cell.images
        self._paired = self._paired and cell.images == self._images and cell.resampled is not None
        if not self._paired or cell.resampled is None:
            return
        # Those that are not complete share the last ranks.
        found = numpy.full((len(scores), RESAMPLES), (len(scores) + len(places) + 1) / 2)
        found[places] = cell.resampled
        self._resampled = found if self._resampled is None else self._resampled + found

    def standings(self, wins: Mapping[str, int]) -> Standings | None:
        """Return how the methods stand; None where no cell counts.

        Args:
            wins: method -> in how many cells it won over the bar; without the bar.
        """
        if not self._scores:
            return None
        scores = numpy.stack(self._scores)
        there = ~numpy.isnan(scores)
        seen = numpy.logical_or.reduce(there, axis=0)
        average = numpy.full(len(seen), numpy.nan)
        average[seen] = ranks(scores[:, seen]).mean(axis=0)
        # While cells were added it was not known who is complete nowhere: they pushed the shared last ranks back.
        intervals = self._intervals((~there).mean(axis=0) * (~seen).sum() / 2)
        cells, full = len(scores), numpy.logical_and.reduce(there, axis=0)
        tested, placed = int(full.sum()), int(seen.sum())
        difference = critical_difference(placed, cells) if tested > 1 and cells > 1 else None
        order = [int(i) for i in sorted(numpy.flatnonzero(seen), key=lambda i: (average[i], self._methods[i]))]
        judged = [i for i in order if full[i]]
        groups = [""] * tested if difference is None else tie_groups([float(average[i]) for i in judged], difference)
        letters = dict(zip(judged, groups, strict=True))
        places = tuple(
            Ranked(
                method=self._methods[i],
                rank=float(average[i]),
                interval=intervals[i] if intervals else None,
                cells=int(there[:, i].sum()),
                wins=wins.get(self._methods[i]),
                group=letters.get(i, ""),
            )
            for i in order
        )
        alike = friedman(scores[:, full]) if tested > 2 and cells > 1 else None
        return Standings(places, cells, tested, alike, difference)

    def _intervals(self, too_far: Floats) -> list[Interval] | None:
        if self._resampled is None or not self._paired:
            return None
        tail = (100 - LEVEL) / 2
        ends = numpy.percentile(self._resampled / len(self._scores), [tail, 100 - tail], axis=1)
        return [Interval(float(low), float(high)) for low, high in (ends - too_far).T]


def _resampled_scores(samples: Sequence[Sample]) -> Floats:
    """Return (K, RESAMPLES) the sums of scores over each resample of the images, less the first method's.

    All cells are resampled alike, since a network's errors on one image go with another's. Scores are in units that
    make sums of hits whole numbers, so that equal ones are equal.
    """
    outcomes = numpy.stack([sample.outcomes for sample in samples if sample.outcomes is not None])
    differences = outcomes - outcomes[0]
    # On most images all methods are alike.
    contested = numpy.flatnonzero(differences.any(axis=0))
    differences = differences[:, contested]
    if all(sample.hits for sample in samples):
        # Whole numbers this small are exact in half the digits, which takes half the time.
        hits = differences / 100 * math.lcm(*(len(sample.seeds) for sample in samples))
        return _sums(numpy.rint(hits).astype(numpy.float32), contested, outcomes.shape[1]).astype(numpy.float64)
    return _sums(differences, contested, outcomes.shape[1])


def _sums(differences: Numbers, contested: Numbers, images: int) -> Numbers:
    """Return (K, RESAMPLES) the sums over each resample of what methods differ by on the contested images.

    Args:
        differences: (K, C) for C contested images.
        contested: (C,) which of all images these are.
        images: how many there are in all.
    """
    counts = _counts(images)
    sums = numpy.zeros((len(differences), RESAMPLES), differences.dtype)
    # Bit by bit, each in memory that is near: at once, fetching it would take several times as long as the sums.
    near = numpy.empty((NEAR, RESAMPLES), differences.dtype)
    for first in range(0, len(contested), NEAR):
        part = contested[first : first + NEAR]
        near[: len(part)] = counts[part]
        sums += differences[:, first : first + NEAR] @ near[: len(part)]
    return sums


@lru_cache(maxsize=2)
def _counts(images: int) -> Numbers:
    """Return (images, RESAMPLES) how often each resample holds each image."""
    generator = numpy.random.default_rng(BOOTSTRAP_SEED)
    counts = numpy.empty((images, RESAMPLES), numpy.uint16)
    for resample in range(RESAMPLES):
        counts[:, resample] = numpy.bincount(generator.integers(images, size=images), minlength=images)
    return counts
