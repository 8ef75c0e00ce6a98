"""SAWB: the weights' clip is worked out from their mean square and mean magnitude, at every step.

Choi et al., "Bridging the Accuracy Gap for 2-bit Quantized Neural Networks (QNN)" (arXiv 1807.06964), the section on
statistics-aware weight binning: alpha = c1 sqrt(E[w^2]) + c2 E[|w|], with c1 and c2 a line fitted through the optimal
alpha of six distributions (Gauss, uniform, Laplace, logistic, triangle, von Mises). The paper pairs it with PACT.
Rounding is straight-through, for clipped weights too, so that none is stuck: IBM's FMS Model Optimizer calls that
SAWB+, and its SAWB gives clipped weights no gradient. Alpha, a statistic, takes no gradient.

The paper's levels lie evenly in [-alpha, alpha], 0 not among them. COEFFICIENTS are the same fit on the protocol's
grid, which holds 0 and has the same step, 2 alpha / (2^k - 1); `tests/dqss/learned/test_sawb.py` fits both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from dqss.functional import Qparams, fake_quantize
from dqss.learned.base import Learned, LearnedQuantizer, with_gradient_of
from dqss.learned.start import check_seen, zeros_as_ones

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

COEFFICIENTS = {
    2: (3.61, -2.55),
    3: (7.34, -6.60),
    4: (11.99, -11.97),
    5: (16.99, -17.84),
    6: (22.17, -23.97),
    7: (27.44, -30.23),
    8: (32.67, -36.45),
}
"""Bits -> c1, c2."""


class StatisticalClip(LearnedQuantizer):
    """Weights clipped by their own statistics.

    Args:
        weight: what the clip is of until the first call.
        spec: a symmetric grid.
    """

    alpha: Tensor

    def __init__(self, weight: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.register_buffer("alpha", statistical_clip(self.by_channel(weight), spec.bits))

    def quantized(self, x: Tensor, features: int) -> Tensor:
        if x.numel() > 0:
            self.alpha.copy_(statistical_clip(self.by_channel(x), self.spec.bits))
        return with_gradient_of(x, fake_quantize(x.detach(), self.qparams()))

    def qparams(self) -> Qparams:
        scale = self.alpha * (2 / ((1 << self.spec.bits) - 1))
        return Qparams(scale, torch.zeros_like(scale, dtype=torch.int32), self.spec)


@dataclass(frozen=True)
class Sawb(Learned):
    """A clip from statistics, for weights."""

    activation_from: ClassVar[str | None] = "pact"

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        check_seen(summary)
        return StatisticalClip(weight, spec)


def statistical_clip(rows: Tensor, bits: int) -> Tensor:
    """Return the (C,) alpha of (C, n) weights.

    Where they are spread as in none of the six distributions the line may leave [E|w|, max |w|], within which the
    best clip lies; then it is the nearer end.

    >>> statistical_clip(torch.tensor([[1.0, -1.0, 3.0, -3.0]]), 2).round(decimals=3)  # 3.61 * sqrt(5) - 2.55 * 2
    tensor([2.9720])
    """
    magnitudes = rows.detach().abs().double()
    mean, largest = magnitudes.mean(1), magnitudes.amax(1)
    first, second = COEFFICIENTS[bits]
    alpha = first * magnitudes.square().mean(1).sqrt() + second * mean
    return zeros_as_ones(torch.minimum(torch.maximum(alpha, mean), largest).float())
