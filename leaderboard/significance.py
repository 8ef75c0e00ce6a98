"""Paired tests over test images, and Holm's correction for the many cells of a board.

McNemar, "Note on the sampling error of the difference between correlated proportions" (Psychometrika 1947); Wilcoxon,
"Individual comparisons by ranking methods" (Biometrics Bulletin 1945), with zeros as in Pratt (JASA 1959); Holm, "A
simple sequentially rejective multiple test procedure" (Scandinavian Journal of Statistics 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy
from scipy.special import gammaln, ndtr

Floats = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Integers = numpy.ndarray[Any, numpy.dtype[numpy.int64]]

# The largest sum of sizes whose sign flips are worked out exactly; with larger ones the normal distribution is close.
_EXACT = 4000


def mcnemar(differences: Floats | Integers, unit: float = 1) -> float:
    """Return the two-sided p-value of no difference in hits, the sign of each image's difference being left to chance.

    With one seed on either side it is McNemar's test: exact (binomial) for up to 4,000 discordant images, by the normal
    distribution above. Means over seeds differ by parts of a hit, and their signs are flipped alike.

    Args:
        differences: (N,) of one score per test image.
        unit: what all of them are whole multiples of.

    >>> mcnemar(numpy.array([1.0] * 5 + [0.0] * 90), 1.0)  # 2 of the 2^5 ways to sign five images are as uneven
    0.0625
    """
    return _sign_flips(numpy.rint(differences / unit).astype(numpy.int64))


def wilcoxon(differences: Floats) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test.

    Exact, also with ties, for up to 62 images; by the normal distribution above. Images without a difference are ranked
    and then count for neither side (Pratt), so that they do not make the others look surer.

    Args:
        differences: (N,) of one score per test image, of any scale.

    >>> wilcoxon(numpy.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    0.0625
    """
    # As in the ranks of scores: what differs by rounding alone is equal.
    rounded = numpy.round(differences, 9)
    _, places, counts = numpy.unique(numpy.abs(rounded), return_inverse=True, return_counts=True)
    # Twice the average rank of those that are equal: of the first and the last of them together.
    twice = (2 * numpy.cumsum(counts) - counts + 1)[places]
    return _sign_flips(twice * numpy.sign(rounded).astype(numpy.int64))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are: one below 0.05 is by chance in at most 5 % of families.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def _sign_flips(signed: Integers) -> float:
    """Return how likely signs by chance make a sum as far from 0 as this one's, zeros left out."""
    sizes = numpy.abs(signed)
    whole, total = int(sizes.sum()), int(signed.sum())
    if whole > _EXACT:
        return _normal(signed.astype(numpy.float64))
    chances = _chances(numpy.bincount(sizes).astype(numpy.int64).tobytes())
    sums = 2 * numpy.arange(whole + 1) - whole
    return min(1.0, float(chances[numpy.abs(sums) >= abs(total)].sum()))


@lru_cache(maxsize=64)
def _chances(counts: bytes) -> Floats:
    """Return the probability of each sum of the sizes that happen to be positive.

    Scores without ties have the same ranks, so that one distribution serves for all methods of a board.

    Args:
        counts: how many there are of each size from 0 on, int64.
    """
    numbers = numpy.frombuffer(counts, numpy.int64)
    chances = numpy.zeros(int((numbers * numpy.arange(len(numbers))).sum()) + 1)
    chances[0], reach = 1.0, 0
    for size in numpy.flatnonzero(numbers[1:]) + 1:
        chances, reach = _with_flips(chances, reach, int(size), int(numbers[size]))
    return chances


def _with_flips(chances: Floats, reach: int, size: int, count: int) -> tuple[Floats, int]:
    """Return chances of sums to which so many numbers of a size are added, each or not, and the largest of these sums.

    Args:
        chances: of each sum from 0 on; of those above `reach` it is 0.
    """
    if count == 1:
        halves = chances / 2
        halves[size : reach + size + 1] += chances[: reach + 1] / 2
        return halves, reach + size
    step = numpy.zeros(size * count + 1)
    step[::size] = _binomial(count)
    found = numpy.zeros_like(chances)
    found[: reach + size * count + 1] = numpy.convolve(chances[: reach + 1], step) if reach else step
    return found, reach + size * count


def _binomial(count: int) -> Floats:
    chosen = numpy.arange(count + 1)
    logarithm = gammaln(count + 1) - gammaln(chosen + 1) - gammaln(count - chosen + 1) - count * math.log(2)
    chances: Floats = numpy.exp(logarithm)
    return chances


def _normal(signed: Floats) -> float:
    spread = math.sqrt(float(signed @ signed))
    return 1.0 if spread == 0 else float(2 * ndtr(-abs(float(signed.sum())) / spread))
