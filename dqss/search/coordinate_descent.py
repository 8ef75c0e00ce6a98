"""Coordinate descent: one candidate of one layer at a time, kept where the calibration loss falls.

Nahshan et al., "Loss Aware Post-Training Quantization" (arXiv 1911.07190), descend so on the joint loss, by
Powell's method on step sizes; here the coordinates are discrete.
"""

from __future__ import annotations

from dataclasses import dataclass

from dqss.search.base import Found, Report, Search, SearchProblem, no_report
from dqss.search.best_uniform import pair_losses
from dqss.search.refine import Swap


@dataclass(frozen=True)
class CoordinateDescent(Search):
    """From the best uniform pair, layers in the network's order, until no single change helps.

    Args:
        sweeps: how often at most each layer has its turn.
    """

    sweeps: int = 10

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"sweeps: {self.sweeps} is not allowed. Give at least 1.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        probed = pair_losses(problem, no_report)
        pair = min(probed, key=probed.__getitem__)
        picks, least = problem.uniform(*pair), probed[pair]
        losses = [least]
        candidates = (len(problem.weight_quantizers), len(problem.activation_quantizers))
        coordinates = [(layer, kind) for layer in range(len(picks)) for kind in range(2)]
        turns = self.sweeps * len(coordinates)
        # How many coordinates in a row were left as they were: once it is all of them, the next sweep changes nothing.
        settled = 0
        for turn in range(turns):
            layer, kind = coordinates[turn % len(coordinates)]
            settled += 1
            now = picks[layer][kind]
            for candidate in range(candidates[kind]):
                if candidate != now:
                    changed = Swap(layer, kind, candidate).applied_to(picks)
                    loss = problem.loss(changed, least)
                    if loss < least:
                        picks, least, settled = changed, loss, 1
                        losses.append(least)
            report("search", turn + 1, turns)
            if settled == len(coordinates):
                break
        report("search", turns, turns)
        return Found(problem.strategy(picks), least, curves={"loss": losses})
