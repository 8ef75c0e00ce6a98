"""LSQ: the step size is a parameter, with a gradient that knows how far a value is from the next transition.

Esser et al., "Learned Step Size Quantization" (ICLR 2020), section 2: the gradient to the step by equation 3 (section
2.1), its scale by section 2.2, that to the data straight-through within the grid and 0 beyond. A value right on the
lowest or highest level counts as within, where the paper has it clipped. The paper begins with a step of
2 E|v| / sqrt(Q_P); here it begins with that of a post-training algorithm, which suits 8 bits too.
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
from dqss.learned.start import is_signed, middle, starting_step
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class LearnedStep(LearnedQuantizer):
    """`round(clip(x / step, low, high)) * step`, with zero_point where it is.

    Args:
        step: (C,), to begin with.
        zero_point: 0, or where an unsigned grid shall hold signed values, its middle.
        count: how many values share the step, N of section 2.2; None: the features of a sample.
    """

    def __init__(self, step: Tensor, zero_point: int, count: int | None, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.step = nn.Parameter(step.detach().clone())
        self.zero_point = zero_point
        self.count = count

    def quantized(self, x: Tensor, features: int) -> Tensor:
        low, high = self.spec.quant_min - self.zero_point, self.spec.quant_max - self.zero_point
        count = features if self.count is None else self.count
        step = with_scaled_gradient(positive(self.step), gradient_scale(count, high))
        step = self.expanded(step, x)
        return with_gradient_of((x / step).clamp(low, high), codes_of(x, self.qparams())) * step

    def qparams(self) -> Qparams:
        step = positive(self.step.detach())
        return Qparams(step, torch.full_like(step, self.zero_point, dtype=torch.int32), self.spec)


@dataclass(frozen=True)
class Lsq(Learned):
    """A learned step, for weights and activations. Signed activations have a signed grid, as weights do.

    Args:
        ranges: gives the first step.
    """

    ranges: Quantizer = field(default_factory=Mse)

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        step = starting_step(self.ranges, summary, spec, signed=True)
        return LearnedStep(step, 0, weight.numel() // len(step), spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        signed = is_signed(summary, spec)
        step = starting_step(self.ranges, summary, spec, signed)
        return LearnedStep(step, middle(spec) if signed else spec.quant_min, None, spec)
