"""The best uniform pair: every (weight, activation) pair of algorithms for all layers, the best on calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from dqss.search.base import Found, Report, Search, SearchProblem
from dqss.search.race import race


@dataclass(frozen=True)
class BestUniform(Search):
    """Every pair is tried on the calibration set, until it is known to be above the best."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        losses = pair_losses(problem, report)
        best = min(losses, key=losses.__getitem__)
        return Found(problem.strategy(problem.uniform(*best)), losses[best], curves={"loss": list(losses.values())})


def uniform_pairs(problem: SearchProblem) -> list[tuple[int, int]]:
    """Return every pair of candidates (weight, activation)."""
    return list(product(range(len(problem.weight_quantizers)), range(len(problem.activation_quantizers))))


def pair_losses(problem: SearchProblem, report: Report) -> dict[tuple[int, int], float]:
    """Return the calibration loss of every pair of candidates (weight, activation) as a uniform strategy.

    That of the best is exact, of another a value between that and its loss.
    """
    pairs = uniform_pairs(problem)
    return dict(zip(pairs, race(problem, [problem.uniform(*pair) for pair in pairs], report), strict=True))
