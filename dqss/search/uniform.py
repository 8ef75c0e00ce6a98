"""The uniform strategy: one algorithm for the weights and activations of every layer.

One for weights alone (`uniform-adaround`) goes with the best single activation quantizer, by calibration loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqss.search.base import Found, Report, Search, SearchProblem


@dataclass(frozen=True)
class Uniform(Search):
    """The first weight candidate everywhere; of several activation candidates the best one everywhere."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        losses: list[float] = []
        for activation in range(len(problem.activation_quantizers)):
            losses.append(problem.loss(problem.uniform(0, activation), min(losses, default=math.inf)))
            report("search", len(losses), len(problem.activation_quantizers))
        best = min(losses)
        return Found(problem.strategy(problem.uniform(0, losses.index(best))), best)
