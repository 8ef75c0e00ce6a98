"""How sure the difference of any two methods of a board is, worked out for all pairs at once.

The bootstrap of `statistics.py` takes tenths of a millisecond a pair, and a board of 30 methods has 435 pairs. Their
errors follow from one product of matrices; what the normal approximation is good for is in docs/adr/0011-site.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance
from typing import Any

import numpy

from leaderboard.statistics import LEVEL, Sample

Floats = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

_QUANTILE = NormalDist().inv_cdf(0.5 + LEVEL / 200)


@dataclass(frozen=True)
class Pairs:
    """Half the width of the interval, at LEVEL percent, of each difference of two methods.

    Args:
        methods: K names.
        margins: K rows; row i has i entries, of method i with each one before it. In the metric's unit of differences;
            None where their images do not pair.
    """

    methods: tuple[str, ...]
    margins: tuple[tuple[float | None, ...], ...]

    def margin(self, first: str, second: str) -> float | None:
        """Return the half width for two methods; None where a method is unknown or their images do not pair."""
        if first == second or first not in self.methods or second not in self.methods:
            return None
        low, high = sorted((self.methods.index(first), self.methods.index(second)))
        return self.margins[high][low]


def pairs_of(samples: Mapping[str, Sample]) -> Pairs:
    """Return how sure the differences of all methods are.

    Args:
        samples: of the complete methods of a board.
    """
    methods = tuple(samples)
    groups: list[list[int]] = []
    for i, sample in enumerate(samples.values()):
        group = next((found for found in groups if samples[methods[found[0]]].pairs_with(sample)), None)
        if group is not None:
            group.append(i)
        elif sample.outcomes is not None:
            groups.append([i])
    margins: list[list[float | None]] = [[None] * i for i in range(len(methods))]
    for members in groups:
        found = _QUANTILE * standard_errors([samples[methods[i]] for i in members])
        for row, i in enumerate(members):
            for column, j in enumerate(members[:row]):
                margins[i][j] = round(float(found[row, column]), 6)
    return Pairs(methods, tuple(tuple(row) for row in margins))


def standard_errors(samples: Sequence[Sample]) -> Floats:
    """Return (K, K) the standard error of each difference of two methods' mean scores.

    Images are drawn for both methods together. The seeds of a method add their variance over their number; one seed
    adds nothing, as how far another would differ is unknown.

    Args:
        samples: K of them, with outcomes of the same images.
    """
    outcomes = numpy.stack([sample.outcomes for sample in samples if sample.outcomes is not None])
    images = outcomes.shape[1]
    # What all methods share on an image is in no difference; without it less is lost to rounding.
    outcomes -= outcomes.mean(axis=0)
    outcomes -= outcomes.mean(axis=1, keepdims=True)
    covariance = outcomes @ outcomes.T / max(images - 1, 1)
    own = numpy.diag(covariance)
    of_images = numpy.maximum(own[:, None] + own[None, :] - 2 * covariance, 0) / images
    of_seeds = numpy.array([_variance_of_mean(sample.seeds) for sample in samples])
    errors: Floats = numpy.sqrt(of_images + of_seeds[:, None] + of_seeds[None, :])
    return errors


def _variance_of_mean(seeds: Sequence[float]) -> float:
    return variance(seeds) / len(seeds) if len(seeds) > 1 else 0.0
