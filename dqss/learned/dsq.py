"""DSQ: rounding whose gradient is that of a chain of tanh curves, which training makes steeper where that helps.

Gong et al., "Differentiable Soft Quantization: Bridging Full-Precision and Low-Bit Neural Networks" (ICCV 2019),
section 3.2: between two levels, delta apart and with m in their middle, the soft function is
phi(x) = tanh(k (x - m)) / tanh(k delta / 2), whose pieces join. Section 3.3: alpha = 1 - tanh(k delta / 2), the gap
between hard and soft, is learned, and k = log(2 / alpha - 1) / delta. The paper bounds alpha's norm; here alpha is
kept below 0.5, above which the curve is nearly a line. Section 3.4: the ends of the range are learned too. Values are
rounded hard; the gradients to x, the ends and alpha are those of the soft function. On a symmetric grid the two ends
are tied, and the step is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dqss.functional import Qparams, fake_quantize
from dqss.learned.base import (
    Learned,
    LearnedQuantizer,
    gradient_scale,
    with_gradient_of,
    with_scaled_gradient,
)
from dqss.learned.span import Span, starting_span
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

# Below the least the curve is a step, with no gradient but at the middle between two levels.
LEAST_ALPHA, LARGEST_ALPHA = 0.01, 0.5


class SoftlyRounded(LearnedQuantizer):
    """Hard rounding with the gradient of the soft.

    Args:
        span: the ends of the range.
        alpha: to begin with.
        count: how many values share the range; None: the features of a sample.
    """

    def __init__(self, span: Span, alpha: float, count: int | None, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.count = count
        self.span = span
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def surrogate(self, x: Tensor, features: int) -> Tensor:
        """Return `x` rounded softly, the function whose gradient training follows."""
        factor = gradient_scale(features if self.count is None else self.count, self.spec.quant_max)
        low, step = (self.expanded(part, x) for part in self.span(factor))
        alpha = with_gradient_of(self.alpha, self.alpha.detach().clamp(LEAST_ALPHA, LARGEST_ALPHA))
        alpha = with_scaled_gradient(alpha, factor).to(x.dtype)
        most = (1 << self.spec.bits) - 1
        steps = ((x - low) / step).clamp(0, most)
        below = steps.detach().floor().clamp(max=most - 1)
        soft = torch.tanh((2 / alpha - 1).log() * (steps - below - 0.5)) / (1 - alpha)
        return low + step * (below + (soft + 1) / 2)

    def quantized(self, x: Tensor, features: int) -> Tensor:
        return with_gradient_of(self.surrogate(x, features), fake_quantize(x.detach(), self.qparams()))

    def qparams(self) -> Qparams:
        return self.span.qparams()


@dataclass(frozen=True)
class Dsq(Learned):
    """Soft gradients, for weights and activations of any sign.

    Args:
        ranges: gives the first range.
        alpha: to begin with, above 0, at most 0.5.
    """

    ranges: Quantizer = field(default_factory=Mse)
    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not LEAST_ALPHA <= self.alpha <= LARGEST_ALPHA:
            raise ValueError(f"alpha: {self.alpha} is not allowed. Give {LEAST_ALPHA} to {LARGEST_ALPHA}.")

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        span = starting_span(self.ranges, summary, spec)
        return SoftlyRounded(span, self.alpha, weight.numel() // len(summary.low), spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        return SoftlyRounded(starting_span(self.ranges, summary, spec), self.alpha, None, spec)
