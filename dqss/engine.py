"""Where the steps of a training run: the interface to one process or several, and the plain engine of one process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from dqss.inputs import Batch
from dqss.snapshots import State

Example = tuple[Batch, Tensor]
"""A batch of model inputs, and the targets that the loss compares the outputs with."""

PartLoss = Callable[[Batch, Tensor], Tensor]
"""From a part of a batch to its scalar loss; that of the batch is the mean over equal parts."""


class Engine(Protocol):
    """Runs the steps of a training, in one process or in several that hold the same weights.

    Batches are global: every process draws the same ones, and `backward` takes this process's part of each. Life cycle:
    `begin`; then `backward` and `step` for each batch, with `state`, `load` and `agree` between steps; then `end`, and
    another training may begin.
    """

    @property
    def name(self) -> str:
        """What decides the numbers and the shape of the state: processes, parts of a batch, precision."""
        ...

    @property
    def shard(self) -> int:
        """The part of the state on disk that this process reads; 0 is of the first process."""
        ...

    @property
    def writes(self) -> bool:
        """Whether this process writes that part."""
        ...

    def begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        """Return the model as it is to be called from now on; the optimizer moves its parameters.

        The caller may change the optimizer's learning rates at any time.
        """
        ...

    def backward(self, example: Example, loss: PartLoss) -> float:
        """Leave the gradients of a global batch in the parameters and return its loss, the same in each process.

        Raises:
            ValueError: the batch cannot be cut into as many equal parts as the engine needs.
        """
        ...

    def step(self) -> None:
        """Move the parameters, and bring together what processes observed of their parts, such as ranges."""
        ...

    def state(self) -> State:
        """Return a copy of this process's part of the state of model and optimizer."""
        ...

    def load(self, state: State) -> None:
        """Go back to a state of this engine."""
        ...

    def agree(self, value: int) -> bool:
        """Wait for all processes and return whether they came with the same value."""
        ...

    def end(self) -> None:
        """Leave the model as plain modules, with the trained weights in every process."""
        ...


@dataclass
class Alone:
    """One process and plain PyTorch, on the device of the model.

    Args:
        accumulation: how many equal parts a batch is cut into, which go forward and backward one after the other: the
            memory of a part, the gradients of the whole. A running average of what a layer sees takes each part for a
            batch.
    """

    accumulation: int = 1
    _model: nn.Module | None = field(default=None, init=False, repr=False)
    _optimizer: torch.optim.Optimizer | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_accumulation(self.accumulation)

    @property
    def name(self) -> str:
        return f"1 process, {self.accumulation} parts"

    @property
    def shard(self) -> int:
        return 0

    @property
    def writes(self) -> bool:
        return True

    def begin(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        self._model, self._optimizer = model, optimizer
        return model

    def backward(self, example: Example, loss: PartLoss) -> float:
        assert self._optimizer is not None
        self._optimizer.zero_grad()
        total = 0.0
        for inputs, targets in parts_of(example, 1, self.accumulation):
            value = loss(inputs, targets) / self.accumulation
            value.backward()
            total += value.item()
        return total

    def step(self) -> None:
        assert self._optimizer is not None
        self._optimizer.step()

    def state(self) -> State:
        assert self._model is not None
        assert self._optimizer is not None
        return plain_state(self._model, self._optimizer)

    def load(self, state: State) -> None:
        assert self._model is not None
        assert self._optimizer is not None
        load_plain(state, self._model, self._optimizer)

    def agree(self, value: int) -> bool:
        return True

    def end(self) -> None:
        self._model = self._optimizer = None


def plain_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Return a copy of the whole state of both."""
    return copy.deepcopy({"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()})


def load_plain(state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Bring both back to a state, in place."""
    model.load_state_dict(state["model"])
    # It keeps the tensors that it is given.
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


def check_accumulation(accumulation: int) -> None:
    """Raise ValueError where a batch cannot be cut into so many parts."""
    if accumulation < 1:
        raise ValueError(f"accumulation: {accumulation} is not allowed. Give at least 1.")


def parts_of(example: Example, processes: int, accumulation: int, process: int = 0) -> Iterator[Example]:
    """Yield the parts of a global batch that are a process's: equal ones, in their order.

    >>> batch = torch.arange(8.0), torch.arange(8)
    >>> [targets.tolist() for inputs, targets in parts_of(batch, processes=2, accumulation=2, process=1)]
    [[4, 5], [6, 7]]

    Raises:
        ValueError: the batch cannot be cut into as many equal parts as all processes need.
    """
    parts = processes * accumulation
    if parts == 1:
        yield example
        return
    inputs, targets = example
    size = len(targets)
    if size % parts:
        raise ValueError(
            f"training_batches: a batch of {size} cannot be cut into {processes} (processes) x {accumulation} "
            f"(accumulation) equal parts. Give batches whose size {parts} divides."
        )
    each = size // parts
    for part in range(process * accumulation, (process + 1) * accumulation):
        piece = slice(part * each, (part + 1) * each)
        yield _cut(inputs, piece), targets[piece]


def _cut(inputs: Batch, piece: slice) -> Batch:
    if isinstance(inputs, Tensor):
        return inputs[piece]
    if isinstance(inputs, Mapping):
        return {name: value[piece] for name, value in inputs.items()}
    return [value[piece] for value in inputs]
