"""Ranks of methods over many cells.

Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 7, 2006), section 3.2.
"""

from __future__ import annotations

import math
from functools import cache
from string import ascii_lowercase
from typing import Any

import numpy
from scipy.special import chdtrc

Floats = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

SIGNIFICANCE = 0.05


def ranks(scores: Floats) -> Floats:
    """Return (C, K) the rank of each of K methods in each of C cells; 1 is best, equal scores share their ranks.

    A method without a score (nan) shares the last ranks of its cell with all others that have none.

    >>> ranks(numpy.array([[0.9, 0.7, 0.9], [0.5, numpy.nan, numpy.nan]]))
    array([[1.5, 3. , 1.5],
           [1. , 2.5, 2.5]])
    """
    # What differs by rounding alone is equal.
    rounded = numpy.round(numpy.nan_to_num(scores, nan=-numpy.inf), 9)
    mine, others = rounded[:, :, None], rounded[:, None, :]
    found: Floats = (others > mine).sum(axis=2) + ((others == mine).sum(axis=2) + 1) / 2
    return found


def friedman(scores: Floats) -> float:
    """Return the p-value of the hypothesis that K methods are alike over C cells (chi-square, corrected for ties).

    Args:
        scores: (C, K), none missing.
    """
    placed = ranks(scores)
    cells, methods = placed.shape
    middle = (methods + 1) / 2
    within = float(((placed - middle) ** 2).sum())
    if within == 0:
        return 1.0
    between = float(((placed.sum(axis=0) - cells * middle) ** 2).sum())
    return float(chdtrc(methods - 1, (methods - 1) * between / within))


@cache
def critical_difference(methods: int, cells: int) -> float:
    """Return Nemenyi's critical difference: average ranks that are nearer than it are not told apart at 5 %.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    return _nemenyi(methods) * math.sqrt(methods * (methods + 1) / (6 * cells))


def tie_groups(average_ranks: list[float], difference: float) -> list[str]:
    """Return for each method the letters of its groups: methods that share one are not told apart.

    Groups are the largest runs of neighbouring ranks that lie within less than the critical difference.

    Args:
        average_ranks: in ascending order.
        difference: the critical difference.

    >>> tie_groups([1.0, 1.8, 2.5, 4.0], 1.0)
    ['a', 'ab', 'b', 'c']
    """
    groups: list[range] = []
    for first, best in enumerate(average_ranks):
        last = max(i for i, rank in enumerate(average_ranks) if rank == best or rank - best < difference)
        if not groups or last >= groups[-1].stop:
            groups.append(range(first, last + 1))
    return ["".join(_letter(g) for g, group in enumerate(groups) if i in group) for i in range(len(average_ranks))]


@cache
def _nemenyi(methods: int) -> float:
    # It takes half a second to import, and one process in many asks.
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - SIGNIFICANCE, methods, numpy.inf)) / math.sqrt(2)


def _letter(index: int) -> str:
    return ascii_lowercase[index % 26] * (index // 26 + 1)
