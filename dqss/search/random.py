"""Random search: strategies drawn at random, the best on calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random as Generator

from dqss.search.base import Found, Picks, Report, Search, SearchProblem


@dataclass(frozen=True)
class Random(Search):
    """Each layer's pair drawn independently and evenly.

    Args:
        draws: how many strategies are tried on the calibration set, each until it is known to be above the best so far.
    """

    draws: int = 80

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws: {self.draws} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        generator = Generator(problem.seed)
        weights, activations = len(problem.weight_quantizers), len(problem.activation_quantizers)
        best: Picks = ()
        least = math.inf
        losses = []
        for done in range(1, self.draws + 1):
            picks = tuple((generator.randrange(weights), generator.randrange(activations)) for _ in problem.layers)
            losses.append(problem.loss(picks, least))
            if losses[-1] < least:
                best, least = picks, losses[-1]
            report("search", done, self.draws)
        return Found(problem.strategy(best), least, curves={"loss": losses})
