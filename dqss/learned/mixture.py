"""The mixture of learned quantizers in one pass over the input, whatever each does with values and gradients.

On a per-tensor grid a learned quantizer is a function of one value, and so is the mixture. Therefore the mixture is
worked out at evenly spaced points of the batch's range only, by the quantizers themselves and in autograd's graph;
each input reads the point next to it. Backward, the gradients of all inputs that read one point are added up and go
through the graph of the points: to alpha, steps, clips and offsets, by each algorithm's own rule. What then arrives at
a point, as a part of what was sent, is the slope by which the gradients of its inputs are multiplied. Some algorithms
(EWGS) treat gradients above and below 0 differently, so each point stands there twice, for either sign.

This is the project's own derivation. Beside `dqss.mixture` it is not exact: an input that lies within half a gap of a
rounding's boundary may fall to its other side, and terms that are linear in the input see its point. A gap is the
batch's range over the number of points, so one far outlier makes all coarser. Figures are in
docs/adr/0006-training.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dqss.learned.base import LearnedQuantizer, values_per_sample
from dqss.mixture import mix_weights, restored

POINTS_PER_LEVEL = 64
LEAST_POINTS = 2048


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
    learned = [p for quantizer in quantizers for p in quantizer.parameters() if p.requires_grad]
    result: Tensor = _InOnePass.apply(x, mixing, quantizers, (low, high, count), *learned)  # type: ignore[no-untyped-call]
    return result


def sum_of(x: Tensor, quantizers: Sequence[LearnedQuantizer], mixing: Tensor) -> Tensor:
    """Return the mixture by its definition, at the cost of all its quantizers; for weights, and of any grids."""
    return _weighted((quantizer(x) for quantizer in quantizers), mixing)


def _weighted(quantized: Iterable[Tensor], mixing: Tensor) -> Tensor:
    stacked = torch.stack(list(quantized))
    # Alpha may be on the CPU, where its randomness is the same for every device.
    return mix_weights(stacked, mixing.to(stacked))


class _InOnePass(torch.autograd.Function):
    """The quantizers' graph over the points is kept in between; backward, one pass through it gives all gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mixing: Tensor,
        quantizers: Sequence[LearnedQuantizer],
        span: tuple[float, float, int],
        *learned: Tensor,
    ) -> Tensor:
        low, high, count = span
        needed = any(ctx.needs_input_grad)
        with torch.set_grad_enabled(needed):
            points = torch.linspace(low, high, count, dtype=torch.float32, device=x.device).repeat(2)
            leaves = points.requires_grad_(needed), mixing.detach().requires_grad_(needed)
            features = values_per_sample(x)
            values = _weighted((quantizer.quantized(points, features) for quantizer in quantizers), leaves[1])
        # In the order in which x lies in memory, a dense tensor is flat without a copy.
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        lying = x.permute(order)
        position = lying.flatten().float().sub(low).mul_((count - 1) / (high - low)).add_(0.5).clamp_(0, count - 1)
        point = position.to(torch.int32)
        if needed:
            ctx.save_for_backward(point)
            ctx.values, ctx.leaves, ctx.order = values, (*leaves, *learned), order
        read = torch.index_select(values.detach(), 0, point, out=position)
        return restored(read.to(x.dtype), lying.shape, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (point,) = ctx.saved_tensors
        lying = gradient.permute(ctx.order)
        flat = lying.flatten().float()
        # The sign bit tells which copy of the point: -1 where the gradient is below 0, else 0.
        row = point.sub(flat.view(torch.int32).bitwise_right_shift(31), alpha=len(ctx.values) // 2)
        arriving = torch.zeros_like(ctx.values).index_add_(0, row, flat)
        leaving, *others = torch.autograd.grad(ctx.values, ctx.leaves, arriving, allow_unused=True)
        to_x = None
        if ctx.needs_input_grad[0]:
            # Where nothing arrives, nothing is read.
            slopes = torch.where(arriving != 0, leaving / arriving, 0.0)
            to_x = restored(slopes.index_select(0, row).mul_(flat).to(gradient.dtype), lying.shape, ctx.order)
        return to_x, others[0], None, None, *others[1:]
