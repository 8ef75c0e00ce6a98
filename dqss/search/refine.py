"""Refinement of a discrete strategy: one candidate of one layer swapped at a time, the most promising swaps first.

What a swap would change is predicted by the gradient of the loss to the mixing weights at the strategy itself (one
there-and-back pass for all swaps of all layers), then tried; the first that is better is kept, and the next are
predicted anew. This procedure is this project's own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from dqss.search.base import Picks, Report, SearchProblem

PREDICTED = 4
"""Batches on which swaps are predicted."""
SCREENS = (1, 4)
"""How many batches a swap is tried on before all of them; what is not better there is given up."""


class Refined(NamedTuple):
    """Where refinement ended.

    Args:
        losses: of the calibration set at the start and after each swap that was kept.
        tried: how many swaps were.
    """

    picks: Picks
    losses: list[float]
    tried: int


def refine(problem: SearchProblem, picks: Picks, passes: int, generator: Generator, report: Report) -> Refined:
    """Return a strategy whose calibration loss is not above that of `picks`.

    It ends where no swap that a round of predictions offers is better, or where its budget is spent.

    Args:
        problem: its `cost` counts what is used.
        picks: where to start.
        passes: how many images may be sent forward; a backward pass counts as two. The swap under way is finished.
        generator: draws the screened batches of each round.
        report: is told of the budget spent.
    """
    start = problem.cost.forward_passes
    kept = batch_losses(problem, picks, range(len(problem.batches)))
    losses, tried = [mean_of(problem, kept)], 0
    improved = True
    while improved and problem.cost.forward_passes - start < passes:
        improved = False
        order = torch.randperm(len(problem.batches), generator=generator).tolist()
        for swap in promising(problem, picks, order[:PREDICTED]):
            spent = problem.cost.forward_passes - start
            if spent >= passes:
                break
            report("refinement", spent, passes)
            trial = swap.applied_to(picks)
            tried += 1
            found = better_losses(problem, trial, kept, order)
            if found:
                picks, kept, improved = trial, found, True
                losses.append(mean_of(problem, kept))
                break
    if passes > 0:
        report("refinement", passes, passes)
    return Refined(picks, losses, tried)


def better_losses(problem: SearchProblem, trial: Picks, kept: dict[int, float], order: list[int]) -> dict[int, float]:
    """Return batch -> loss of a strategy; nothing where it is not better than `kept` on one of the screens or in all.

    Args:
        order: of the batches to try it on.
    """
    found: dict[int, float] = {}
    for screen in (*SCREENS, len(order)):
        found |= batch_losses(problem, trial, order[len(found) : screen])
        if mean_of(problem, found) >= mean_of(problem, {position: kept[position] for position in found}):
            return {}
    return found


class Swap(NamedTuple):
    """Another candidate in one layer: `kind` 0 is its weight's, 1 its activation's."""

    layer: int
    kind: int
    candidate: int

    def applied_to(self, picks: Picks) -> Picks:
        """Return the picks with this one changed."""
        weight, activation = picks[self.layer]
        pair = (self.candidate, activation) if self.kind == 0 else (weight, self.candidate)
        return (*picks[: self.layer], pair, *picks[self.layer + 1 :])


def promising(problem: SearchProblem, picks: Picks, positions: list[int]) -> list[Swap]:
    """Return the swaps that the gradient predicts to lower the loss of these batches, the largest change first."""
    slopes = slopes_at(problem, picks, positions)
    predicted = [
        (slope - row[picks[layer][kind]], Swap(layer, kind, candidate))
        for kind, rows in enumerate(slopes)
        for layer, row in enumerate(rows.tolist())
        for candidate, slope in enumerate(row)
    ]
    return [swap for change, swap in sorted(predicted) if change < 0]


def slopes_at(problem: SearchProblem, picks: Picks, positions: list[int]) -> tuple[Tensor, Tensor]:
    """Return the slopes of the mean loss of these batches to the mixing weights, (L, M) and (L, N), at `picks`."""
    weights, activations = (torch.tensor(chosen) for chosen in zip(*picks, strict=True))
    one_hot = torch.nn.functional.one_hot
    mixing = (
        one_hot(weights, len(problem.weight_quantizers)).float().requires_grad_(),
        one_hot(activations, len(problem.activation_quantizers)).float().requires_grad_(),
    )
    slopes = (torch.zeros_like(mixing[0]), torch.zeros_like(mixing[1]))
    # The caller may have switched gradients off around the whole quantization.
    with torch.enable_grad():
        for position in positions:
            for layer, weight, activation in zip(problem.layers.values(), *mixing, strict=True):
                layer.mix(weight.to(layer.weights), activation.to(layer.weights))
            found = torch.autograd.grad(problem.batch_loss(position), mixing)
            for total, slope in zip(slopes, found, strict=True):
                total += slope / len(positions)
    return slopes


def batch_losses(problem: SearchProblem, picks: Picks, positions: range | list[int]) -> dict[int, float]:
    """Return batch -> its loss under a discrete strategy."""
    return {position: problem.strategy_loss(picks, position) for position in positions}


def mean_of(problem: SearchProblem, losses: dict[int, float]) -> float:
    """Return the mean over the images of some batches."""
    sizes = {position: len(problem.calibration.targets[position]) for position in losses}
    return sum(loss * sizes[position] for position, loss in losses.items()) / sum(sizes.values())
