"""First and second moments of a layer's inputs: what bias correction and learned rounding know of the data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dqss.graph import TRANSPOSED, Layer, Prepared
from dqss.inputs import Batch, call, layer_input

# Of a network for images of any size, so that memory stays bounded: inputs of further sizes are left out of the mean.
MOST_SIZES = 16
# Patches per layer, so that the cost does not grow with the calibration set.
PATCHES = 2**15


class MeanInput:
    """The mean of a layer's inputs over images, kept apart by position and input size.

    A layer is linear in its input, so the mean of its outputs is the output of this mean, at the padded borders too.
    """

    def __init__(self) -> None:
        self.sums: dict[torch.Size, tuple[Tensor, int]] = {}

    def update(self, layer: Layer, x: Tensor) -> None:
        """Add a batch of the layer's inputs."""
        if isinstance(layer, nn.Linear):
            x = x.reshape(-1, layer.in_features)
        elif x.ndim == layer.weight.ndim - 1:
            x = x[None]
        size = x.shape[1:]
        if size in self.sums:
            before, images = self.sums[size]
            self.sums[size] = before.add_(x.sum(0, dtype=torch.float64)), images + len(x)
        elif len(self.sums) < MOST_SIZES and x.numel() > 0:
            self.sums[size] = x.sum(0, dtype=torch.float64), len(x)

    def output(self, layer: Layer, weight: Tensor) -> Tensor:
        """Return (C_out,), the mean of the layer's outputs with this weight and no bias, over images and positions.

        Args:
            layer: gives the operation.
            weight: in place of the layer's own.
        """
        parameters = {"weight": weight.double()}
        if layer.bias is not None:
            parameters["bias"] = torch.zeros_like(layer.bias, dtype=torch.float64)
        total, count = torch.zeros((), dtype=torch.float64, device=weight.device), 0
        for summed, images in self.sums.values():
            output = functional_call(layer, parameters, (summed[None],))
            channels = output.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)
            total = total + channels.sum(1)
            count += images * channels.shape[1]
        return total / count


def second_moments(prepared: Prepared, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Run the full-precision model once over the batches; return layer name -> E[x x^T] of its input patches.

    A patch x is what one output sees of the input: per group, y = W x with W and x as in `rows` and `patches`. A layer
    takes patches of evenly many images of each batch, about PATCHES in all.

    Returns:
        (groups, d, d) float32 each, with d = inputs per output: in_channels / groups x kernel size.
    """
    sums: dict[str, tuple[Tensor, int]] = {}

    def adder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], None]:
        # A copy has no hook, which `patches` would call again.
        layer = copy.deepcopy(prepared.layers[name])

        def add(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            x = layer_input(args, kwargs)
            outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            positions = output.numel() // outputs
            kept = max(1, round(len(x) * PATCHES / max(1, positions * len(batches))))
            columns = patches(layer, x[:kept])
            before, count = sums.get(name, (0.0, 0))
            sums[name] = before + torch.bmm(columns, columns.mT).double(), count + columns.shape[2]

        return add

    hooks = [layer.register_forward_hook(adder(name), with_kwargs=True) for name, layer in prepared.layers.items()]
    try:
        with torch.no_grad():
            for batch in batches:
                call(prepared.model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / max(count, 1)).float() for name, (total, count) in sums.items()}


def rows(layer: Layer, weight: Tensor) -> Tensor:
    """Return a weight, or anything of its shape, as (groups, outputs per group, d): the inverse of `unrows`."""
    if isinstance(layer, nn.Linear):
        return weight[None]
    grouped: Tensor = weight.unflatten(0, (layer.groups, -1))
    return (grouped.transpose(1, 2) if isinstance(layer, TRANSPOSED) else grouped).flatten(2)


def unrows(layer: Layer, matrix: Tensor) -> Tensor:
    """Return (groups, outputs per group, d) in the shape of the layer's weight."""
    if isinstance(layer, TRANSPOSED):
        groups, outputs, _ = matrix.shape
        grouped = matrix.view(groups, outputs, -1, *layer.kernel_size)
        return grouped.transpose(1, 2).flatten(0, 1).contiguous()
    return matrix.reshape(layer.weight.shape)


def patches(layer: Layer, x: Tensor) -> Tensor:
    """Return (groups, d, positions), what each output of the layer sees of its input, float32.

    They are the outputs of the layer itself with unit vectors for weights, so stride, padding, dilation and
    transposition need no words here.
    """
    x = x.detach().float()
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features).T[None]
    kernel = layer.weight[0, 0].numel()
    d = layer.in_channels // layer.groups * kernel
    units = torch.eye(d, device=x.device).expand(layer.groups, d, d)
    shape = (layer.groups, d, layer.in_channels // layer.groups, *layer.kernel_size)
    if isinstance(layer, TRANSPOSED):
        weight = units.view(shape).transpose(1, 2).flatten(0, 1)
    else:
        weight = units.reshape(shape).flatten(0, 1)
    parameters = {"weight": weight.contiguous()}
    if layer.bias is not None:
        parameters["bias"] = torch.zeros(layer.groups * d, device=x.device)
    output: Tensor = functional_call(layer, parameters, (x,))
    if output.ndim < layer.weight.ndim:
        output = output[None]
    grouped: Tensor = output.transpose(0, 1).flatten(1).unflatten(0, (layer.groups, d))
    return grouped
