"""DQSS: differentiable search for the strategy, by gradient descent on alpha through the efficient convolution.

Li, Yan, Chen, "Differentiable Search for Finding Optimal Quantization Strategy" (arXiv 2404.08010). The relaxation, its
schedule and the search space are this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from dqss.registry import UnknownNameError, did_you_mean
from dqss.search.base import Found, Picks, Report, Search, SearchProblem, no_report
from dqss.search.best_uniform import uniform_pairs
from dqss.search.race import race
from dqss.search.refine import refine
from dqss.search.relax import RELAXATIONS


class Alpha(NamedTuple):
    """Logits or mixing weights of all layers: (L, M) for weights, (L, N) for activations."""

    weight: Tensor
    activation: Tensor


@dataclass(frozen=True)
class Dqss(Search):
    """Adam on alpha, one calibration batch a step, with a temperature that falls geometrically; then refinement.

    It starts with even odds on a network that is quantized in part: each layer mixes its full-precision weights and
    inputs with the candidates' mixture, whose share, the blend, grows to 1. A network quantized whole by chance is at
    few bits so poor that its gradients say nothing. Refinement goes on from the argmax of alpha, or from a uniform pair
    where that has a lower calibration loss.

    Args:
        steps: how many gradient steps.
        learning_rate: of alpha.
        relaxation: `softmax` or `gumbel`.
        warm: the temperature of the first step.
        cold: the temperature of the last step, at which the relaxed loss is measured.
        blend: the share of the candidates' mixture in the first step.
        ramp: the part of the steps after which that share is 1.
        probes: calibration batches on which the uniform pairs race against the argmax of alpha.
        refinement: images that the refinement of the discrete strategy may send forward; a backward pass counts as two.
    """

    steps: int = 120
    learning_rate: float = 0.1
    relaxation: str = "gumbel"
    warm: float = 1.0
    cold: float = 0.1
    blend: float = 0.3
    ramp: float = 0.5
    probes: int = 2
    refinement: int = 14_000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps} is not allowed. Give at least 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: {self.learning_rate} is not allowed. Give a number above 0.")
        if self.relaxation not in RELAXATIONS:
            raise UnknownNameError(
                f"relaxation: '{self.relaxation}' is not allowed. {did_you_mean(self.relaxation, RELAXATIONS)}"
            )
        if not self.warm >= self.cold > 0:
            raise ValueError(f"cold: {self.cold} is not allowed. Give a number above 0, at most warm ({self.warm}).")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend: {self.blend} is not allowed. Give a number between 0 and 1.")
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp: {self.ramp} is not allowed. Give a number above 0, at most 1.")
        if self.probes < 1:
            raise ValueError(f"probes: {self.probes} is not allowed. Give at least 1.")
        if self.refinement < 0:
            raise ValueError(f"refinement: {self.refinement} is not allowed. Give 0 or more.")

    def search(self, problem: SearchProblem, report: Report) -> Found:
        generator = Generator().manual_seed(problem.seed)
        alpha = Alpha(
            torch.zeros(len(problem.layers), len(problem.weight_quantizers), requires_grad=True),
            torch.zeros(len(problem.layers), len(problem.activation_quantizers), requires_grad=True),
        )
        optimizer = torch.optim.Adam(alpha, lr=self.learning_rate)
        curves: dict[str, list[float]] = {"loss": [], "entropy": []}
        for step, batch in enumerate(shuffled(len(problem.batches), self.steps, generator)):
            progress = step / max(self.steps - 1, 1)
            temperature = self.warm * (self.cold / self.warm) ** progress
            # The caller may have switched gradients off around the whole quantization.
            with torch.enable_grad():
                mix(problem, self.relaxed(alpha, temperature, generator), self.blend_at(progress))
                loss = problem.batch_loss(batch)
                optimizer.zero_grad()
                loss.backward()
            # One step along a gradient that is not a number would spoil alpha for good.
            if loss.isfinite():
                optimizer.step()
            curves["loss"].append(loss.item())
            curves["entropy"].append(mean_entropy(softmax_at(alpha, temperature)))
            report("search", step + 1, self.steps)
        final = softmax_at(alpha, self.cold)
        mix(problem, final)
        relaxed_loss = problem.current_loss()
        discretized = discretize(alpha)
        discretized_loss = problem.loss(discretized)
        starts = [discretized, *(problem.uniform(*pair) for pair in uniform_pairs(problem))]
        probed = race(problem.part(self.probes), starts, no_report)
        start = starts[min(range(len(starts)), key=probed.__getitem__)]
        if start != discretized and problem.loss(start, discretized_loss) >= discretized_loss:
            start = discretized
        refined = refine(problem, start, self.refinement, generator, report)
        curves["refined"] = refined.losses
        return Found(
            strategy=problem.strategy(refined.picks),
            calibration_loss=refined.losses[-1],
            relaxed_loss=relaxed_loss,
            discretized_loss=discretized_loss,
            alpha={name: (w.tolist(), a.tolist()) for name, w, a in zip(problem.layers, *final, strict=True)},
            curves=curves,
        )

    def blend_at(self, progress: float) -> float:
        """Return the share of the candidates' mixture when this part of the steps is done, 0 to 1."""
        return min(1.0, self.blend + (1 - self.blend) * progress / self.ramp)

    def relaxed(self, alpha: Alpha, temperature: float, generator: Generator) -> Alpha:
        """Return mixing weights by the relaxation."""
        relax = RELAXATIONS[self.relaxation]
        return Alpha(relax(alpha.weight, temperature, generator), relax(alpha.activation, temperature, generator))


def shuffled(batches: int, steps: int, generator: Generator) -> list[int]:
    """Return the batch of each step: all of them in a new order, again and again."""
    epochs = -(-steps // batches)
    return torch.cat([torch.randperm(batches, generator=generator) for _ in range(epochs)])[:steps].tolist()


def mix(problem: SearchProblem, mixing: Alpha, blend: float = 1.0) -> None:
    """Let the problem's model run this mixture, or its blend with full precision."""
    for layer, weight, activation in zip(problem.layers.values(), *mixing, strict=True):
        # Alpha stays on the CPU, where its randomness is the same for every device.
        layer.mix(weight.to(layer.weights), activation.to(layer.weights), blend)


def softmax_at(alpha: Alpha, temperature: float) -> Alpha:
    """Return softmax(alpha / temperature), without a gradient."""
    return Alpha(*((logits.detach() / temperature).softmax(1) for logits in alpha))


def mean_entropy(mixing: Alpha) -> float:
    """Return the entropy of mixing weights in nats, the mean over layers and kinds; 0 is discrete."""
    return torch.cat([torch.special.entr(weights).sum(1) for weights in mixing]).mean().item()


def discretize(alpha: Alpha) -> Picks:
    """Return the candidates of the largest logits."""
    return tuple(zip(alpha.weight.argmax(1).tolist(), alpha.activation.argmax(1).tolist(), strict=True))
