"""The problem that a search gets, the interface of a search, and what it gives back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from dqss.calibrate import Calibration
from dqss.graph import Prepared
from dqss.inputs import Batch, call
from dqss.layers import CandidateLayer
from dqss.matching import OutputLoss
from dqss.quantizers.base import Quantizer
from dqss.strategy import Choice, Strategy
from dqss.weights import WeightCandidate

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""

Picks = tuple[tuple[int, int], ...]
"""One pair of candidate positions (weight, activation) per layer, in the network's order."""


def no_report(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass
class Cost:
    """What a search has used so far.

    Args:
        forward_passes: images sent forward through the network; a backward pass counts as two.
    """

    forward_passes: int = 0


@dataclass(frozen=True)
class SearchProblem:
    """What every search gets, alike for all: the calibrated model with its candidates. It holds no test split.

    Args:
        prepared: the model in full precision with its layers and specs.
        calibration: what the one calibration pass left.
        batches: unlabelled calibration inputs; `calibration.targets` are the full-precision outputs for them.
        weight_quantizers: name -> candidate for weights.
        activation_quantizers: name -> candidate for activations.
        model: the model with a CandidateLayer in the place of each layer.
        layers: name -> its CandidateLayer in `model`, in the network's order.
        output_loss: compares outputs with full-precision ones.
        seed: of all randomness in the search.
        cost: counts what this search uses.
    """

    prepared: Prepared
    calibration: Calibration
    batches: Sequence[Batch]
    weight_quantizers: Mapping[str, WeightCandidate]
    activation_quantizers: Mapping[str, Quantizer]
    model: nn.Module
    layers: dict[str, CandidateLayer]
    output_loss: OutputLoss
    seed: int = 0
    cost: Cost = field(default_factory=Cost)

    def fresh(self, seed: int) -> SearchProblem:
        """Return the same problem for another search: its own seed and cost, everything else shared."""
        return replace(self, seed=seed, cost=Cost())

    def part(self, batches: int) -> SearchProblem:
        """Return the problem on its first batches only; what it costs counts here too."""
        calibration = replace(self.calibration, targets=self.calibration.targets[:batches])
        return replace(self, batches=self.batches[:batches], calibration=calibration)

    def batch_loss(self, position: int) -> Tensor:
        """Return the scalar loss of one calibration batch under what `model` runs now, differentiable."""
        output = call(self.model, self.batches[position])
        self.cost.forward_passes += len(output) * (3 if output.requires_grad else 1)
        return self.output_loss(output, self.calibration.targets[position])

    def current_loss(self) -> float:
        """Return the loss over the whole calibration set under what `model` runs now."""
        with torch.no_grad():
            losses = [self.batch_loss(i).item() * len(t) for i, t in enumerate(self.calibration.targets)]
        return sum(losses) / sum(len(t) for t in self.calibration.targets)

    def choose(self, picks: Picks) -> None:
        """Let `model` run a discrete strategy from now on."""
        for layer, (weight, activation) in zip(self.layers.values(), picks, strict=True):
            layer.choose(weight, activation)

    def strategy_loss(self, picks: Picks, position: int) -> float:
        """Return the loss of one calibration batch under a discrete strategy; infinity where it is not a number."""
        self.choose(picks)
        with torch.no_grad():
            loss = self.batch_loss(position).item()
        # NaN compares with nothing, and could win.
        return math.inf if math.isnan(loss) else loss

    def loss(self, picks: Picks, bound: float = math.inf) -> float:
        """Return the calibration loss of a discrete strategy.

        Args:
            picks: the strategy.
            bound: no batch has a loss below 0, so once the batches seen say that the loss is above this, the others are
                not run and a value above `bound`, at most the loss, is returned. It saves most of the passes of a poor
                strategy and leaves every comparison with `bound` as it is.
        """
        images = sum(len(target) for target in self.calibration.targets)
        total = 0.0
        for position, target in enumerate(self.calibration.targets):
            total += self.strategy_loss(picks, position) * len(target) / images
            if total > bound:
                break
        return total

    def uniform(self, weight: int, activation: int) -> Picks:
        """Return the same pair of candidates for every layer."""
        return ((weight, activation),) * len(self.layers)

    def strategy(self, picks: Picks) -> Strategy:
        """Return the strategy that the candidates' positions stand for."""
        weights, activations = list(self.weight_quantizers), list(self.activation_quantizers)
        choices = {
            name: Choice(weights[weight], activations[activation], self.prepared.specs[name].bits)
            for name, (weight, activation) in zip(self.layers, picks, strict=True)
        }
        return Strategy(choices, self.prepared.bits, self.prepared.protocol)


@dataclass(frozen=True)
class Found:
    """What a search gives back.

    Args:
        strategy: the discrete result.
        calibration_loss: its loss over the whole calibration set.
        relaxed_loss: of the mixture before discretization; None for a search without one.
        discretized_loss: of the strategy that alpha stands for; above `calibration_loss` where the search ended with
            another one. None likewise.
        alpha: layer name -> final mixing weights of (weight, activation) candidates; None likewise.
        curves: name -> one value per step; `loss` of several strategies has one for each, exact for the best, else what
            was summed up until it was given up, which is at most its loss.
    """

    strategy: Strategy
    calibration_loss: float
    relaxed_loss: float | None = None
    discretized_loss: float | None = None
    alpha: dict[str, tuple[list[float], list[float]]] | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)


class Search(ABC):
    """A procedure that finds a strategy. A subclass is a frozen dataclass whose fields are its options.

    It keeps nothing between calls; the same problem with the same seed gives the same result.
    """

    @abstractmethod
    def search(self, problem: SearchProblem, report: Report) -> Found:
        """Return the strategy found on the problem's calibration batches."""
