"""The uniform strategy: one algorithm for the weights and activations of every layer."""

from __future__ import annotations

from dataclasses import dataclass

from dqss.search.base import Found, Report, Search, SearchProblem


@dataclass(frozen=True)
class Uniform(Search):
    """No search at all: the first weight and the first activation candidate everywhere."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        picks = problem.uniform(0, 0)
        loss = problem.loss(picks)
        report("search", 1, 1)
        return Found(problem.strategy(picks), loss)
