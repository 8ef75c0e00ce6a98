"""The best uniform pair: every (weight, activation) pair of algorithms for all layers, the best on calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from dqss.search.base import Found, Report, Search, SearchProblem


@dataclass(frozen=True)
class BestUniform(Search):
    """Every pair is tried on the calibration set, until it is known to be above the best so far."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        losses = pair_losses(problem, report)
        best = min(losses, key=losses.__getitem__)
        return Found(problem.strategy(problem.uniform(*best)), losses[best], curves={"loss": list(losses.values())})


def pair_losses(problem: SearchProblem, report: Report) -> dict[tuple[int, int], float]:
    """Return the calibration loss of every pair of candidates (weight, activation) as a uniform strategy.

    That of the best is exact; of a pair known to be above the best before it, a value between that and its loss.
    """
    pairs = list(product(range(len(problem.weight_quantizers)), range(len(problem.activation_quantizers))))
    losses: dict[tuple[int, int], float] = {}
    best = math.inf
    for done, pair in enumerate(pairs, start=1):
        losses[pair] = problem.loss(problem.uniform(*pair), best)
        best = min(best, losses[pair])
        report("search", done, len(pairs))
    return losses
