"""The steps of quantization-aware training: network, quantizers and alpha move by one backward pass each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn

from dqss.engine import Engine, Example
from dqss.inputs import Batch
from dqss.layers import LearnedLayer
from dqss.optimizer import optimizer_of
from dqss.schedule import Rates, Schedule
from dqss.search.base import Picks, Report
from dqss.search.dqss import Alpha, discretize, mean_entropy, softmax_at
from dqss.search.relax import RELAXATIONS
from dqss.snapshots import Snapshots
from dqss.supernet import Supernet

StepLoss = Callable[[nn.Module, Batch, Tensor], Tensor]
"""From the model, inputs and targets to a scalar."""

TrainingBatches = Callable[[int], Iterable[Example]]
"""From the epoch, 0 first, to its batches."""

LEAST_SHARE = 1e-3
"""The mixing weight of a candidate that is not yet out of the search."""


@dataclass(frozen=True)
class Trained:
    """What the steps ended with; the supernet itself is trained, and derived.

    Args:
        picks: the pair of candidates that each layer was left with.
        alpha: the mixing weights by which they were derived, on the CPU.
        losses: one per step.
        entropies: of alpha in nats, the mean over layers and kinds, one per step; 0 once the strategy is derived.
        seconds: that the steps took, also those before a snapshot that training went on from.
        notes: on snapshots, in whole sentences.
    """

    picks: Picks
    alpha: Alpha
    losses: list[float]
    entropies: list[float]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass
class Progress:
    """Where a training stands, beside the state of its engine.

    Args:
        losses: of the steps that are done.
        entropies: likewise.
        logits: alpha as the strategy was derived; None before.
        seconds: that the steps took.
    """

    losses: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    logits: Alpha | None = None
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many are done."""
        return len(self.losses)


class Trainee(nn.Module):
    """All that is trained, in one module: the network with its quantizers, and alpha.

    Args:
        supernet: its model's parameters are shared, not copied.
    """

    out_weight: Tensor
    out_activation: Tensor

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.model = supernet.model
        layers = list(supernet.layers.values())
        like = layers[0].layer.weight
        self.alpha_weight = nn.Parameter(like.new_zeros(len(layers), len(layers[0].weight_quantizers)))
        self.alpha_activation = nn.Parameter(like.new_zeros(len(layers), len(layers[0].activation_quantizers)))
        self.register_buffer("out_weight", torch.zeros_like(self.alpha_weight, dtype=torch.bool))
        self.register_buffer("out_activation", torch.zeros_like(self.alpha_activation, dtype=torch.bool))

    @property
    def alpha(self) -> Alpha:
        """The logits, minus infinity where a candidate is out."""
        return Alpha(
            self.alpha_weight.masked_fill(self.out_weight, -math.inf),
            self.alpha_activation.masked_fill(self.out_activation, -math.inf),
        )

    def drop(self, mixing: Alpha) -> None:
        """Put candidates out for good whose mixing weights are below LEAST_SHARE.

        So small a share trains nothing. Were such a candidate to come back while the others have gone on, it would not
        fit any more: the loss jumps, and the network is torn down with it.
        """
        self.out_weight |= mixing.weight < LEAST_SHARE
        self.out_activation |= mixing.activation < LEAST_SHARE

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Run the network; its arguments are those of the model."""
        return self.model(*inputs, **named)


def train(
    supernet: Supernet,
    examples: Iterable[Example],
    step_loss: StepLoss,
    schedule: Schedule,
    rates: Rates,
    generator: Generator,
    report: Report,
    engine: Engine,
    snapshots: Snapshots | None = None,
    fingerprint: str = "",
) -> Trained:
    """Warm up, search, derive, and train on.

    The network stays in eval mode: normalisation that could not be folded keeps its statistics, and nothing is dropped.

    Args:
        supernet: trained in place.
        examples: one per step of the schedule.
        step_loss: from the model, inputs and targets to the scalar loss; it calls the model once.
        generator: gives all randomness.
        engine: runs the steps.
        snapshots: where training is kept while it lasts, and goes on from.
        fingerprint: of what is trained, by what and on what: a snapshot with another is not used.

    Raises:
        ValueError: a loss that is not finite.
    """
    layers, trainee = list(supernet.layers.values()), Trainee(supernet)
    if trainee.alpha_weight.shape[1] == trainee.alpha_activation.shape[1] == 1:
        schedule = replace(schedule, then="go-on")
    for layer in layers:
        layer.train()
    optimizer = optimizer_of(supernet, rates)
    highest = [group["lr"] for group in optimizer.param_groups]
    optimizer.add_param_group({"params": [trainee.alpha_weight, trainee.alpha_activation], "lr": rates.alpha})
    with running(engine, trainee, optimizer) as model:
        origin = engine.state() if schedule.then == "restart" else None
        progress, notes = resumed(layers, engine, generator, snapshots, fingerprint)
        spent, begun = progress.seconds, perf_counter()

        def part_loss(inputs: Batch, targets: Tensor) -> Tensor:
            if schedule.begin <= step < schedule.end:
                # Every part of a batch, in every process, runs the same draw.
                generator.set_state(drawing)
                mix(layers, relaxed(trainee.alpha, schedule, step, generator))
            return step_loss(model, inputs, targets)

        # Batches that were used are drawn and dropped: what draws them may hold randomness of its own.
        for step, example in enumerate(islice(examples, progress.steps, None), start=progress.steps):
            if step == schedule.end:
                progress.logits = logits_of(trainee)
                if origin is not None:
                    engine.load(origin)
                derive(layers, discretize(progress.logits))
            for group, rate in zip(optimizer.param_groups, highest, strict=False):
                group["lr"] = rate * schedule.share_of_rates(step)
            drawing = generator.get_state()
            # The caller may have switched gradients off.
            with torch.enable_grad():
                loss = engine.backward(example, part_loss)
            if not math.isfinite(loss):
                raise ValueError(
                    f"loss: {loss} in step {step + 1} of {schedule.steps}. Lower the rates of network and "
                    "quantizers, or look for what is not finite in the training batches."
                )
            engine.step()
            progress.losses.append(loss)
            mixing = softmax_at(trainee.alpha, schedule.temperature(step))
            if step < schedule.end:
                trainee.drop(mixing)
            progress.entropies.append(mean_entropy(mixing) if step < schedule.end else 0.0)
            progress.seconds = spent + perf_counter() - begun
            if snapshots is not None and progress.steps % snapshots.every == 0:
                keep(progress, engine, generator, snapshots, fingerprint)
            report("training", step + 1, schedule.steps)
        if progress.logits is None:
            progress.logits = logits_of(trainee)
            derive(layers, discretize(progress.logits))
    if snapshots is not None and engine.writes:
        snapshots.delete(engine.shard)
    return Trained(
        discretize(progress.logits),
        softmax_at(progress.logits, schedule.cold),
        progress.losses,
        progress.entropies,
        progress.seconds,
        notes,
    )


@contextmanager
def running(engine: Engine, module: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[nn.Module]:
    """Give the module as it is to be called; an engine ends whatever happens, so that another training may begin."""
    try:
        yield engine.begin(module, optimizer)
    finally:
        engine.end()


def keep(progress: Progress, engine: Engine, generator: Generator, snapshots: Snapshots, fingerprint: str) -> None:
    """Write where training stands, once all processes have got there."""
    if engine.writes:
        logits = None if progress.logits is None else list(progress.logits)
        state = {"progress": {**vars(progress), "logits": logits}, "generator": generator.get_state()}
        snapshots.prepare({**state, "engine": engine.state()}, fingerprint, engine.shard)
    # Parts of different steps would be of no use: they take their places together.
    engine.agree(progress.steps)
    if engine.writes:
        snapshots.publish(engine.shard)


def resumed(
    layers: list[LearnedLayer], engine: Engine, generator: Generator, snapshots: Snapshots | None, fingerprint: str
) -> tuple[Progress, tuple[str, ...]]:
    """Go back to the last snapshot, and return where it stands and notes on it; without one, where training begins."""
    if snapshots is None:
        return Progress(), ()
    state, note = snapshots.load(fingerprint, engine.shard)
    if not engine.agree(0 if state is None else len(state["progress"]["losses"])):
        state, note = None, "Not all processes had the same snapshot: training began anew."
    if state is None:
        return Progress(), () if note is None else (note,)
    progress = Progress(**state["progress"])
    if progress.logits is not None:
        progress.logits = Alpha(*progress.logits)
        derive(layers, discretize(progress.logits))
    generator.set_state(state["generator"])
    engine.load(state["engine"])
    return progress, ()


def logits_of(trainee: Trainee) -> Alpha:
    """Return a copy of alpha as it stands, on the CPU."""
    return Alpha(*(logits.detach().cpu().clone() for logits in trainee.alpha))


def relaxed(alpha: Alpha, schedule: Schedule, step: int, generator: Generator) -> Alpha:
    """Return the mixing weights of a step, through which its gradient reaches alpha."""
    relax, temperature = RELAXATIONS[schedule.relaxation], schedule.temperature(step)
    # Randomness is drawn on the CPU, where it is the same for every device.
    return Alpha(*(relax(logits.cpu(), temperature, generator) for logits in alpha))


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
