"""A race of strategies: the best of many on the calibration set, for few passes and without a doubt.

No batch has a loss below 0, so the sum over the batches that a strategy has run is a lower bound of its whole. Always
the strategy with the least sum goes on by one batch; the first that has run all of them is the best, and no rule that
must be sure of that runs fewer batches (best-first branch and bound).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from dqss.search.base import Picks, Report, SearchProblem


def race(problem: SearchProblem, strategies: Sequence[Picks], report: Report) -> list[float]:
    """Return a calibration loss for each strategy: the least is exact, of the others as much as the race has summed up.

    Args:
        report: is told how many batches the foremost has run.
    """
    sizes = [len(target) for target in problem.calibration.targets]
    images = sum(sizes)
    runners = [(0.0, 0, number) for number in range(len(strategies))]
    heapify(runners)
    foremost = 0
    while True:
        total, run, number = heappop(runners)
        if run == len(sizes):
            break
        total += problem.strategy_loss(strategies[number], run) * sizes[run] / images
        heappush(runners, (total, run + 1, number))
        foremost = max(foremost, run + 1)
        report("search", foremost, len(sizes))
    losses = [0.0] * len(strategies)
    for known, _, other in [(total, run, number), *runners]:
        losses[other] = known
    return losses
