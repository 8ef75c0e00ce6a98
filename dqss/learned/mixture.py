"""The mixture of learned quantizers in one pass over the input, whatever each does with values and gradients.

On a per-tensor grid a learned quantizer is a function of one value, and so is the mixture. Therefore the mixture is
worked out at evenly spaced points of the batch's range only, by the quantizers themselves and in autograd's graph;
each input reads the point next to it. Backward, the gradients of all inputs that read one point are added up and go
through the graph of the points: to alpha, steps, clips and offsets, by each algorithm's own rule. The gradient to an
input is its own, times the slope at its point. Some algorithms (EWGS) treat gradients above and below 0 differently,
so each point stands there twice, for either sign.

This is the project's own derivation. Beside `dqss.mixture` it is not exact: an input that lies within half a gap of a
rounding's boundary may fall to its other side, at most one in `POINTS_PER_LEVEL` of those between two levels, and
terms that are linear in the input see its point. docs/adr/0006-training.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dqss.learned.base import LearnedQuantizer, values_per_sample
from dqss.mixture import mix_weights, restored

POINTS_PER_LEVEL = 64
LEAST_POINTS = 4096


def mixture(x: Tensor, quantizers: Sequence[LearnedQuantizer], mixing: Tensor) -> Tensor:
    """Return `sum_j mixing[j] * quantizers[j](x)`, of the shape and type of x.

    Inputs of few values, and those that are not finite, take the sum itself.

    Args:
        x: any shape; the first dimension is the batch.
        quantizers: N, of per-tensor grids of the same bits.
        mixing: (N,), the mixing weights.
    """
    count = max(POINTS_PER_LEVEL << quantizers[0].spec.bits, LEAST_POINTS)
    if x.numel() <= 2 * count * len(quantizers):
        return sum_of(x, quantizers, mixing)
    low, high = (end.item() for end in x.detach().float().aminmax())
    if not float("-inf") < low < high < float("inf"):
        return sum_of(x, quantizers, mixing)
    points = torch.linspace(low, high, count, dtype=torch.float32, device=x.device).repeat(2)
    points.requires_grad_(torch.is_grad_enabled())
    features = values_per_sample(x)
    values = _weighted((quantizer.quantized(points, features) for quantizer in quantizers), mixing)
    slopes = torch.zeros_like(points)
    if torch.is_grad_enabled():
        # As if the inputs of one copy had gradients above 0, those of the other below.
        signs = torch.ones_like(points)
        signs[count:] = -1
        slopes = torch.autograd.grad(values, points, signs, retain_graph=True)[0] * signs
    density = (count - 1) / (high - low)
    result: Tensor = _Read.apply(x, values, slopes, low, density)  # type: ignore[no-untyped-call]
    return result


def sum_of(x: Tensor, quantizers: Sequence[LearnedQuantizer], mixing: Tensor) -> Tensor:
    """Return the mixture by its definition, at the cost of all its quantizers; for weights, and of any grids."""
    return _weighted((quantizer(x) for quantizer in quantizers), mixing)


def _weighted(quantized: Iterable[Tensor], mixing: Tensor) -> Tensor:
    stacked = torch.stack(list(quantized))
    # Alpha may be on the CPU, where its randomness is the same for every device.
    return mix_weights(stacked, mixing.to(stacked))


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, slopes: Tensor, low: float, density: float) -> Tensor:
        # In the order in which x lies in memory, a dense tensor is flat without a copy.
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        lying = x.permute(order)
        count = len(values) // 2
        position = lying.flatten().float().sub(low).mul_(density).add_(0.5).clamp_(0, count - 1)
        point = position.to(torch.int32)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(point, slopes)
            ctx.order = order
        read = torch.index_select(values, 0, point, out=position)
        return restored(read.to(x.dtype), lying.shape, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        point, slopes = ctx.saved_tensors
        lying = gradient.permute(ctx.order)
        flat = lying.flatten().float()
        # The sign bit tells which copy of the point: -1 where the gradient is below 0, else 0.
        row = point.sub(flat.view(torch.int32).bitwise_right_shift(31), alpha=len(slopes) // 2)
        to_x = to_values = None
        if ctx.needs_input_grad[1]:
            to_values = torch.zeros_like(slopes).index_add_(0, row, flat)
        if ctx.needs_input_grad[0]:
            by_input = slopes.index_select(0, row).mul_(flat)
            to_x = restored(by_input.to(gradient.dtype), lying.shape, ctx.order)
        return to_x, to_values, None, None, None
