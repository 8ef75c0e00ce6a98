"""LSQ+: LSQ with a learned offset for activations, and a start that fits the data.

Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better initialization" (CVPRW 2020),
in its section on learnable asymmetric quantization: values and gradients as in LSQ, of x - beta; the gradient to the
offset beta is 1 where a value is clipped, 0 elsewhere; weights have no offset, which would cost a multiplication more.
In its section on initialization: activations begin where the squared error is least, here with the grid of a
post-training algorithm; weights with a grid that reaches three standard deviations from the mean,
s = max(|mean - 3 sd|, |mean + 3 sd|) / 2^(bits - 1). Both parameters take LSQ's gradient scale. So that the protocol's
grid holds 0, beta is rounded to whole steps, its gradient straight-through; on a symmetric grid there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dqss.functional import Qparams
from dqss.learned.base import (
    Learned,
    LearnedQuantizer,
    codes_of,
    gradient_scale,
    positive,
    with_gradient_of,
    with_scaled_gradient,
)
from dqss.learned.lsq import LearnedStep
from dqss.learned.start import check_seen, spread, starting_range, starting_step, zeros_as_ones
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class LearnedStepAndOffset(LearnedQuantizer):
    """`round(clip((x - offset) / step, 0, 2^bits - 1)) * step + offset`.

    Args:
        step: (1,), to begin with.
        offset: (1,), the lowest level, to begin with.
        spec: an affine per-tensor grid.
    """

    def __init__(self, step: Tensor, offset: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.step = nn.Parameter(step.detach().clone())
        self.offset = nn.Parameter(offset.detach().clone())

    def quantized(self, x: Tensor, features: int) -> Tensor:
        factor = gradient_scale(features, self.spec.quant_max)
        step = with_scaled_gradient(positive(self.step), factor).to(x.dtype)
        grid = self.qparams()
        zero_point = grid.zero_point.to(x.dtype)
        offset = with_gradient_of(with_scaled_gradient(self.offset, factor).to(x.dtype), -zero_point * step.detach())
        steps = ((x - offset) / step).clamp(0, self.spec.quant_max)
        return with_gradient_of(steps, codes_of(x, grid) + zero_point) * step + offset

    def qparams(self) -> Qparams:
        step = positive(self.step.detach())
        zero_point = (-self.offset.detach() / step).round().clamp(self.spec.quant_min, self.spec.quant_max)
        return Qparams(step, zero_point.to(torch.int32), self.spec)


@dataclass(frozen=True)
class LsqPlus(Learned):
    """A learned step for weights, a learned step and offset for activations of any sign.

    Args:
        ranges: gives the activations' first grid.
    """

    ranges: Quantizer = field(default_factory=Mse)

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        check_seen(summary)
        mean, deviation = spread(summary)
        reach = mean.abs() + 3 * deviation
        step = zeros_as_ones(reach / (1 << (spec.bits - 1)))
        return LearnedStep(step, 0, weight.numel() // len(step), spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        if spec.symmetric:
            return LearnedStep(starting_step(self.ranges, summary, spec, signed=True), 0, None, spec)
        low, high = starting_range(self.ranges, summary, spec)
        return LearnedStepAndOffset((high - low) / spec.quant_max, low, spec)
