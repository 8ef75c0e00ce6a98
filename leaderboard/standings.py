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

Counts = numpy.ndarray[Any, numpy.dtype[numpy.float32]]


@dataclass(frozen=True)
class Place:
    """One method among all.

    Args:
        rank: the average over all cells that count; 1 is the best of each.
        interval: of the rank, as far as the choice of test images decides; None where a cell's images do not pair, or
            cells have other images than others.
        cells: in how many it is complete; in each other one it shares the last ranks.
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
    """All methods that are complete in a cell at least, the best average rank first.

    Args:
        cells: how many count: those where any method is complete.
        tested: how many methods are complete in all of them. The tests are among these: a cell that never ran is no
            evidence that a method is worse.
        friedman: p-value of these methods being alike; None for fewer than three methods or two cells.
        difference: Nemenyi's critical difference of average ranks, for as many methods as there are places; None for
            fewer than two tested methods or cells.
    """

    places: tuple[Place, ...]
    cells: int
    tested: int
    friedman: float | None
    difference: float | None


class Tally:
    """Collects cells one by one, and keeps of each only its scores and resampled ranks, not its images."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = list(methods)
        self._scores: list[Floats] = []
        self._resampled: Floats | None = None
        self._images: tuple[object, ...] | None = None
        self._paired = True

    def add(self, cell: Mapping[str, Sample]) -> None:
        """Count a cell.

        Args:
            cell: the methods that are complete in it; a cell without any counts for nothing.
        """
        if not cell:
            return
        scores = [cell[method].score if method in cell else numpy.nan for method in self._methods]
        self._scores.append(numpy.array(scores))
        first = next(iter(cell.values()))
        images = (*first.images, 0 if first.outcomes is None else len(first.outcomes))
        self._images = self._images or images
        self._paired = self._paired and images == self._images and all(one.pairs_with(first) for one in cell.values())
        if not self._paired:
            return
        everyone = numpy.full((len(self._methods), RESAMPLES), numpy.nan)
        everyone[[method in cell for method in self._methods]] = _resampled_scores(
            [cell[method] for method in self._methods if method in cell]
        )
        found = ranks(everyone.T).T
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
            Place(
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


def _resampled_scores(samples: Sequence[Sample]) -> Counts:
    """Return (K, RESAMPLES) the sums of scores over each resample of the images, less the first method's.

    All cells are resampled alike, since a network's errors on one image go with another's. Scores are in units that
    make sums of hits whole numbers, so that equal ones are equal.
    """
    known = [sample.outcomes for sample in samples if sample.outcomes is not None]
    outcomes = numpy.stack(known)
    if all(sample.hits for sample in samples):
        outcomes = numpy.rint(outcomes / 100 * math.lcm(*(len(sample.seeds) for sample in samples)))
    differences = (outcomes - outcomes[0]).astype(numpy.float32)
    # On most images all methods are alike.
    contested = numpy.flatnonzero(differences.any(axis=0))
    sums: Counts = differences[:, contested] @ _counts(outcomes.shape[1])[contested]
    return sums


@lru_cache(maxsize=2)
def _counts(images: int) -> Counts:
    """Return (images, RESAMPLES) how often each resample holds each image."""
    generator = numpy.random.default_rng(BOOTSTRAP_SEED)
    counts = numpy.empty((images, RESAMPLES), numpy.float32)
    for resample in range(RESAMPLES):
        counts[:, resample] = numpy.bincount(generator.integers(images, size=images), minlength=images)
    return counts
