"""Random search: strategies drawn at random, the best on calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random as Generator

from dqss.search.base import Found, Report, Search, SearchProblem


@dataclass(frozen=True)
class Random(Search):
    """Each layer's pair drawn independently and evenly.

    Args:
        draws: how many strategies are evaluated on the whole calibration set.
    """

    draws: int = 26

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws: {self.draws} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        generator = Generator(problem.seed)
        weights, activations = len(problem.weight_quantizers), len(problem.activation_quantizers)
        drawn, losses = [], []
        for done in range(1, self.draws + 1):
            picks = tuple((generator.randrange(weights), generator.randrange(activations)) for _ in problem.layers)
            drawn.append(picks)
            losses.append(problem.loss(picks))
            report("search", done, self.draws)
        best = min(range(self.draws), key=losses.__getitem__)
        return Found(problem.strategy(drawn[best]), losses[best], curves={"loss": losses})
