"""EWGS: each value's gradient grows or shrinks with how far rounding took it, and to which side.

Lee et al., "Network Quantization with Element-wise Gradient Scaling" (CVPR 2021): x is brought from [l, u] to x_n in
[0, 1], clipped (equation 1), and rounded to x_q; l and u are learned. The gradient to x_n is
g (1 + delta sign(g) (x_n - x_q)), g that to x_q. delta = 0 is the straight-through estimator.

The paper sets delta from the trace of the Hessian, again and again in training, and compares with constants (0.001 in
the authors' code); here it is a constant of this project's own choice, which whoever trains may overwrite. The
authors learn a scale of each layer's output; here values return to [l, u], so that the grid is the protocol's. On a
symmetric grid the two ends are tied, and the step is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dqss.functional import Qparams
from dqss.learned.base import Learned, LearnedQuantizer, codes_of, gradient_scale
from dqss.learned.span import Span, starting_span
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class ScaledByElement(LearnedQuantizer):
    """Rounding with a gradient scaled element by element.

    Args:
        span: the ends of the range.
        delta: the scaling, for distances in units of the range.
        count: how many values share the range; None: the features of a sample.
    """

    def __init__(self, span: Span, delta: float, count: int | None, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.count = count
        self.span = span
        self.delta = delta

    def quantized(self, x: Tensor, features: int) -> Tensor:
        grid = self.qparams()
        factor = gradient_scale(features if self.count is None else self.count, self.spec.quant_max)
        low, step = (self.expanded(part, x) for part in self.span(factor))
        most = (1 << self.spec.bits) - 1
        steps = ((x - low) / step).clamp(0, most)
        codes = codes_of(x, grid) + self.expanded(grid.zero_point - self.spec.quant_min, x)
        rounded: Tensor = _ScaledByElement.apply(steps, codes, self.delta / most)  # type: ignore[no-untyped-call]
        return rounded * step + low

    def qparams(self) -> Qparams:
        return self.span.qparams()


@dataclass(frozen=True)
class Ewgs(Learned):
    """Gradients scaled element by element, for weights and activations of any sign.

    Args:
        ranges: gives the first range.
        delta: how much a gradient is scaled by the distance, in units of the range, that rounding took its value.
    """

    ranges: Quantizer = field(default_factory=Mse)
    delta: float = 0.1

    def __post_init__(self) -> None:
        if not self.delta >= 0:
            raise ValueError(f"delta: {self.delta} is not allowed. Give 0 or more.")

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        span = starting_span(self.ranges, summary, spec)
        return ScaledByElement(span, self.delta, weight.numel() // len(summary.low), spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        return ScaledByElement(starting_span(self.ranges, summary, spec), self.delta, None, spec)


class _ScaledByElement(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Tensor, codes: Tensor, delta: float) -> Tensor:
        ctx.save_for_backward(steps - codes)
        ctx.delta = delta
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (distance,) = ctx.saved_tensors
        return gradient + ctx.delta * gradient.abs() * distance, None, None
