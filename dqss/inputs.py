"""Batches of a model's inputs: by position or by name, without labels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""A batch of model inputs: one tensor, the positional inputs in their order, or the inputs by name."""


def layer_input(args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> Tensor:
    """Return the input among the arguments that a layer was called with."""
    return args[0] if args else kwargs["input"]


def call(model: nn.Module, batch: Batch) -> Tensor:
    """Return the model's output for a batch; where the model gives several, the first.

    Raises:
        ValueError: the output is not a tensor.
    """
    if isinstance(batch, Mapping):
        output = model(**batch)
    else:
        output = model(batch) if isinstance(batch, Tensor) else model(*batch)
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ValueError(f"model: its output is a {type(output).__name__}. Wrap it so that it returns a tensor.")
    return output


def check_batch(model: nn.Module, batch: Batch, which: str) -> None:
    """Raise ValueError unless the batch is a tensor, or inputs by position or by name that the model takes."""
    inputs: list[object]
    if isinstance(batch, Mapping):
        inputs, found = list(batch.values()), f"a mapping with {', '.join(map(repr, batch)) or 'nothing'}"
    elif isinstance(batch, list | tuple):
        inputs, found = list(batch), f"a {type(batch).__name__} of {len(batch)}"
    else:
        inputs, found = [batch], f"a {type(batch).__name__}"
    try:
        _bound(model, batch)
    except TypeError as error:
        raise ValueError(
            f"calibration_batches: {which} is {found}, which {type(model).__name__}.forward"
            f"{inspect.signature(model.forward)} does not take ({error}). Give its inputs alone: where batches are "
            "(inputs, labels), leave the labels out, for example [inputs for inputs, labels in loader]."
        ) from error
    for value in inputs:
        if not isinstance(value, Tensor):
            raise ValueError(
                f"calibration_batches: {which} holds a {type(value).__name__}. Give tensors: one, the positional "
                "inputs in a list or tuple, or the inputs by name in a mapping."
            )


def defaults(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Return the inputs that a batch does not give, with their defaults."""
    parameters = inspect.signature(model.forward).parameters
    given = _bound(model, batch).arguments
    rest = {name: p for name, p in parameters.items() if name not in given and p.default is not inspect.Parameter.empty}
    return {name: p.default for name, p in rest.items()}


def _bound(model: nn.Module, batch: Batch) -> inspect.BoundArguments:
    signature = inspect.signature(model.forward)
    if isinstance(batch, Mapping):
        return signature.bind(**batch)
    return signature.bind(*batch) if isinstance(batch, list | tuple) else signature.bind(batch)
