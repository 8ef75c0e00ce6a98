"""The best uniform pair: every (weight, activation) pair of algorithms for all layers, the best on calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from dqss.search.base import Found, Report, Search, SearchProblem


@dataclass(frozen=True)
class BestUniform(Search):
    """M x N evaluations on the whole calibration set."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        pairs = list(product(range(len(problem.weight_quantizers)), range(len(problem.activation_quantizers))))
        losses = []
        for done, pair in enumerate(pairs, start=1):
            losses.append(problem.loss(problem.uniform(*pair)))
            report("search", done, len(pairs))
        best = min(range(len(pairs)), key=losses.__getitem__)
        return Found(problem.strategy(problem.uniform(*pairs[best])), losses[best], curves={"loss": losses})
