"""Random search: strategies drawn at random, the best on calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random as Generator

from dqss.search.base import Found, Picks, Report, Search, SearchProblem


@dataclass(frozen=True)
class Random(Search):
    """Each layer's pair drawn independently and evenly, each strategy tried until it is known to be above the best.

    Args:
        images: how many may be sent forward; the strategy under way is finished. The default is about what DQSS counts
            on 1,024 calibration images in batches of 64. Where there are fewer strategies, each is tried once.
    """

    images: int = 43_000

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images: {self.images} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        generator = Generator(problem.seed)
        weights, activations = len(problem.weight_quantizers), len(problem.activation_quantizers)
        start = problem.cost.forward_passes
        best: Picks = ()
        least, losses = math.inf, []
        tried: set[Picks] = set()
        strategies = (weights * activations) ** len(problem.layers)
        while (spent := problem.cost.forward_passes - start) < self.images and len(tried) < strategies:
            report("search", spent, self.images)
            drawn = tuple((generator.randrange(weights), generator.randrange(activations)) for _ in problem.layers)
            if drawn in tried:
                continue
            tried.add(drawn)
            losses.append(problem.loss(drawn, least))
            if not best or losses[-1] < least:
                best, least = drawn, losses[-1]
        report("search", self.images, self.images)
        return Found(problem.strategy(best), least, curves={"loss": losses})
