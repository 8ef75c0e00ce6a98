"""Pure functions on grids: from a range to scale and zero_point; fake quantization with a straight-through backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dqss.spec import QuantSpec

# Below it floats are subnormal, and their reciprocals, by which fake quantization multiplies, soon overflow.
SMALLEST_SCALE = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Qparams:
    """A grid in place: real = (q - zero_point) * scale.

    Args:
        scale: (C,) float32, above 0; C = 1 per-tensor.
        zero_point: (C,) int32, within [quant_min, quant_max].
    """

    scale: Tensor
    zero_point: Tensor
    spec: QuantSpec


def qparams_from_range(low: Tensor, high: Tensor, spec: QuantSpec) -> Qparams:
    """Return the grid that covers [low, high] and holds 0 exactly.

    The convention is that of torch.ao's observers: a symmetric grid maps the larger of |low| and |high| to half a step
    above quant_max, an affine one spreads the range, widened to hold 0, over all its levels.

    Args:
        low: (C,), the lower end of the range.
        high: (C,), the upper end. A range without extent gives scale 1.
    """
    low = low.double().clamp(max=0)
    high = high.double().clamp(min=0)
    steps = spec.quant_max - spec.quant_min
    extent = 2 * torch.maximum(-low, high) if spec.symmetric else high - low
    scale = torch.where(extent > 0, (extent / steps).clamp(min=SMALLEST_SCALE), torch.ones_like(extent))
    if spec.symmetric:
        zero_point = torch.zeros_like(scale)
    else:
        zero_point = (spec.quant_min - torch.round(low / scale)).clamp(spec.quant_min, spec.quant_max)
    return Qparams(scale.float(), zero_point.to(torch.int32), spec)


def fake_quantize(x: Tensor, qparams: Qparams) -> Tensor:
    """Return `x` rounded to the grid (ties to even), in float.

    The backward is the straight-through estimator: the gradient passes where `x` falls on the grid, and is 0 where it
    is clipped (Jacob et al., CVPR 2018, section 3). Values and gradients are those of
    torch.fake_quantize_per_tensor_affine and its per-channel sibling, whose kernels take ten times as long on a CPU.

    Args:
        x: any shape, of a floating type; where the spec names a channel axis, its size is C. Half precision is worked
            on in float32, since a scale loses too much of itself in it.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        return fake_quantize(x.float(), qparams).to(x.dtype)
    spec = qparams.spec
    shape = [1] * x.ndim
    if spec.channel_axis is not None:
        shape[spec.channel_axis] = -1
    scale = qparams.scale.view(shape).to(x.dtype)
    low = (spec.quant_min - qparams.zero_point).view(shape).to(x.dtype)
    high = (spec.quant_max - qparams.zero_point).view(shape).to(x.dtype)
    result: Tensor = _FakeQuantize.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        steps = (x * (1 / scale)).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((steps >= low) & (steps <= high))
        # clamp_ between tensors is ten times slower than these two.
        return torch.minimum(torch.maximum(steps, low, out=steps), high, out=steps).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None
