"""The steps of quantization-aware training: network, quantizers and alpha move by one backward pass each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Generator, Tensor

from dqss.inputs import Batch
from dqss.layers import LearnedLayer
from dqss.schedule import Rates, Schedule
from dqss.search.base import Picks, Report
from dqss.search.dqss import Alpha, discretize, mean_entropy, softmax_at
from dqss.search.relax import RELAXATIONS
from dqss.supernet import Supernet

Example = tuple[Batch, Tensor]
"""A batch of model inputs, and the targets that the loss compares the outputs with."""

TrainingBatches = Callable[[int], Iterable[Example]]
"""From the epoch, 0 first, to its batches."""


@dataclass(frozen=True)
class Trained:
    """What the steps ended with; the supernet itself is trained, and derived.

    Args:
        picks: the pair of candidates that each layer was left with.
        alpha: the mixing weights by which they were derived.
        losses: one per step.
        entropies: of alpha in nats, the mean over layers and kinds, one per step; 0 once the strategy is derived.
    """

    picks: Picks
    alpha: Alpha
    losses: list[float]
    entropies: list[float]


def train(
    supernet: Supernet,
    examples: Iterable[Example],
    step_loss: Callable[[Batch, Tensor], Tensor],
    schedule: Schedule,
    rates: Rates,
    generator: Generator,
    report: Report,
) -> Trained:
    """Warm up, search, derive, and train on.

    The network stays in eval mode: normalisation that could not be folded keeps its statistics, and nothing is dropped.

    Args:
        supernet: trained in place.
        examples: one per step of the schedule.
        step_loss: from inputs and targets to the scalar loss of what the supernet runs.
        generator: gives all randomness.

    Raises:
        ValueError: a loss that is not finite.
    """
    layers = list(supernet.layers.values())
    alpha = Alpha(
        torch.zeros(len(layers), len(layers[0].weight_quantizers), requires_grad=True),
        torch.zeros(len(layers), len(layers[0].activation_quantizers), requires_grad=True),
    )
    optimizer, alpha_optimizer = optimizer_of(supernet, rates), torch.optim.Adam(alpha, lr=rates.alpha)
    highest = [group["lr"] for group in optimizer.param_groups]
    for layer in layers:
        layer.train()
    losses: list[float] = []
    entropies: list[float] = []
    for step, (inputs, targets) in enumerate(examples):
        if step == schedule.end:
            derive(layers, discretize(alpha))
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * schedule.decay(step)
        # The caller may have switched gradients off.
        with torch.enable_grad():
            if schedule.begin <= step < schedule.end:
                mix(layers, relaxed(alpha, schedule, step, generator))
            loss = step_loss(inputs, targets)
            optimizer.zero_grad()
            alpha_optimizer.zero_grad()
            loss.backward()
        losses.append(loss.item())
        if not loss.isfinite():
            raise ValueError(
                f"loss: {losses[-1]} in step {step + 1} of {schedule.steps}. Lower the rates of network and "
                "quantizers, or look for what is not finite in the training batches."
            )
        optimizer.step()
        alpha_optimizer.step()
        mixing = softmax_at(alpha, schedule.temperature(step))
        entropies.append(mean_entropy(mixing) if step < schedule.end else 0.0)
        report("training", step + 1, schedule.steps)
    picks = discretize(alpha)
    if schedule.end == schedule.steps:
        derive(layers, picks)
    return Trained(picks, softmax_at(alpha, schedule.cold), losses, entropies)


def optimizer_of(supernet: Supernet, rates: Rates) -> torch.optim.Optimizer:
    """Return Adam, with a parameter group for the network and one for each parameter of a quantizer.

    In a mixture a quantizer's gradient is as small as its mixing weight, which Adam undoes. But learned steps and clips
    are of all magnitudes, and it would move each as far, the step of 8 bits by a good part of itself.
    """
    quantizers = [quantizer for layer in supernet.layers.values() for quantizer in layer.quantizers()]
    of_quantizers = {id(parameter) for quantizer in quantizers for parameter in quantizer.parameters()}
    network = [parameter for parameter in supernet.model.parameters() if id(parameter) not in of_quantizers]
    groups: list[dict[str, Any]] = [
        {"params": [p.requires_grad_() for p in network if p.is_floating_point()], "lr": rates.network}
    ]
    for quantizer in quantizers:
        for part in quantizer.modules():
            own = list(part.parameters(recurse=False))
            sizes = [parameter.detach().abs().mean().item() for parameter in own]
            # An offset may begin at 0; it is then taken to be as large as what stands beside it.
            usual = min((size for size in sizes if size > 0), default=1.0)
            groups += [
                {"params": [parameter], "lr": rates.quantizers * (size or usual)}
                for parameter, size in zip(own, sizes, strict=True)
                # Some algorithms hold constants as parameters.
                if parameter.requires_grad
            ]
    return torch.optim.Adam(groups)


def relaxed(alpha: Alpha, schedule: Schedule, step: int, generator: Generator) -> Alpha:
    """Return the mixing weights of a step, through which its gradient reaches alpha."""
    relax, temperature = RELAXATIONS[schedule.relaxation], schedule.temperature(step)
    return Alpha(relax(alpha.weight, temperature, generator), relax(alpha.activation, temperature, generator))


def mix(layers: Iterable[LearnedLayer], mixing: Alpha) -> None:
    """Let each layer run its mixture."""
    for layer, weight, activation in zip(layers, *mixing, strict=True):
        layer.mix(weight, activation)


def derive(layers: Iterable[LearnedLayer], picks: Picks) -> None:
    """Leave each layer one pair of candidates."""
    for layer, pair in zip(layers, picks, strict=True):
        layer.derive(*pair)


def first(steps: int, training_batches: TrainingBatches) -> Iterator[Example]:
    """Yield as many batches: those of epoch 0, of epoch 1, and so on.

    >>> inputs, targets = torch.zeros(2, 3), torch.zeros(2)
    >>> len(list(first(5, lambda epoch: [(inputs, targets), (inputs, targets)])))
    5

    Raises:
        ValueError: an epoch without batches, or a batch that is no pair.
    """
    done = 0
    for epoch in count():
        begun = done
        for batch in training_batches(epoch):
            if not (isinstance(batch, list | tuple) and len(batch) == 2):
                raise ValueError(
                    f"training_batches: batch {done - begun + 1} of epoch {epoch} is a {type(batch).__name__}. "
                    "Give pairs (inputs, targets)."
                )
            yield batch[0], batch[1]
            done += 1
            if done == steps:
                return
        if done == begun:
            raise ValueError(
                f"training_batches: epoch {epoch} has no batches. Give a function that returns batches for each epoch; "
                "an iterator that it holds is used up by the first."
            )
