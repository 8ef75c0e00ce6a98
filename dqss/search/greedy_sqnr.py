"""Greedy SQNR: in each layer the candidates with the least quantization noise, whatever that does to the output.

The signal to quantization noise ratio as the measure of a layer's grid: Lin, Talathi, Annapureddy, "Fixed Point
Quantization of Deep Convolutional Networks" (ICML 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqss.search.base import Found, Picks, Report, Search, SearchProblem


@dataclass(frozen=True)
class GreedySqnr(Search):
    """The best SQNR of the weights and that of the inputs, off the histograms: nothing is run but the final loss."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        pairs = []
        for done, (name, layer) in enumerate(problem.layers.items(), start=1):
            exact, inputs = problem.prepared.layers[name].weight, problem.calibration.activations[name]
            weights = torch.stack([(candidate - exact).double().square().sum() for candidate in layer.weights])
            activations = torch.stack([inputs.squared_error(grid).sum() for grid in layer.activations])
            pairs.append((least(weights), least(activations)))
            report("search", done, len(problem.layers))
        picks: Picks = tuple(pairs)
        return Found(problem.strategy(picks), problem.loss(picks))


def least(scores: Tensor) -> int:
    """Return the position of the least of (K,) scores, the first of equals."""
    values: list[float] = scores.tolist()
    return values.index(min(values))
