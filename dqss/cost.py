"""What a quantized model would cost: packed bytes and bit operations."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dqss.graph import TRANSPOSED, Prepared
from dqss.inputs import Batch, call

FLOAT_BYTES = 4


def size_bytes(prepared: Prepared) -> int:
    """Return the bytes of all parameters, packed.

    Weights of quantizable layers take their bits, rounded up to a byte per layer; each grid takes a float32 scale and,
    where it is affine, one byte of zero_point; everything else (biases, other modules) stays float32. Layers that share
    a weight keep a quantized one each, since their grids may differ.
    """
    layers = set(prepared.layers.values())
    kept = {
        parameter
        for module in prepared.model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if not (module in layers and name == "weight")
    }
    total = FLOAT_BYTES * sum(parameter.numel() for parameter in kept)
    for name, layer in prepared.layers.items():
        specs = prepared.specs[name]
        total += ceil(layer.weight.numel() * specs.weight.bits / 8)
        for spec in (specs.weight, specs.activation):
            grids = 1 if spec.channel_axis is None else layer.weight.shape[spec.channel_axis]
            total += grids * (FLOAT_BYTES + (0 if spec.symmetric else 1))
    return total


def bit_operations(prepared: Prepared, batch: Batch) -> int:
    """Return the bit operations for one input: multiply-accumulates x weight bits x activation bits, over all layers.

    What stays in full precision (`Prepared.notes`) is not counted.

    Args:
        batch: any inputs of the model; they are sent through it once, and the count is divided by their number.
    """
    counts: dict[str, int] = {}

    def count(name: str) -> RemovableHandle:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            layer = prepared.layers[name]
            if isinstance(layer, nn.Linear):
                positions = output.numel() // layer.out_features
            elif isinstance(layer, TRANSPOSED):
                positions = (args[0] if args else kwargs["input"]).numel() // layer.in_channels
            else:
                positions = output.numel() // layer.out_channels
            counts[name] = counts.get(name, 0) + positions * layer.weight.numel()

        return prepared.layers[name].register_forward_hook(hook, with_kwargs=True)

    hooks = [count(name) for name in prepared.layers]
    try:
        with torch.no_grad():
            images = len(call(prepared.model, batch))
    finally:
        for hook in hooks:
            hook.remove()
    bits = {name: specs.bits for name, specs in prepared.specs.items()}
    return sum(n * bits[name].weight * bits[name].activation for name, n in counts.items()) // images
