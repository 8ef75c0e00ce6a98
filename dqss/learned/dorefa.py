"""DoReFa: weights squashed by tanh to [-1, 1], activations clipped to [0, 1], both rounded straight-through.

Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients" (arXiv
1606.06160): rounding by section 2.2, weights by equation 9 (section 2.3), activations by section 2.4. The network's
gradients (section 2.5) are not quantized. Departures, for networks that are trained already and whose batch
normalisation is folded:

- Equation 9 spreads 2^k levels evenly over [-1, 1], none of them 0. The protocol's grid holds 0: the step is the
  paper's, 2 / (2^k - 1), the levels lie half a step lower, and what lies above the highest is cut off to it with its
  gradient passing.
- The paper's weights have magnitude 1, and the normalisation behind the layer sets the scale. Here a learned gain does
  (per channel, where the grid is), with LSQ's gradient scale.
- tanh sees weights in units of their largest magnitude in calibration where that is above 1, so that it cannot flatten
  what folding made large.
- Activations are clipped to [0, r], r a constant from calibration; those below 0 to [-r, r].
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
from dqss.learned.pact import starting_clip
from dqss.learned.start import check_seen, zeros_as_ones
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class Squashed(LearnedQuantizer):
    """`gain * round(tanh(x / unit) / max |tanh(x / unit)|)`, rounded in steps of 2 / (2^bits - 1).

    Args:
        unit: (C,).
        spec: a symmetric grid.
    """

    unit: Tensor

    def __init__(self, unit: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.register_buffer("unit", unit.clone())
        self.gain = nn.Parameter(torch.ones_like(unit))

    def fit_gain(self, weight: Tensor) -> None:
        """Set the gain that is best in the least squares for this weight."""
        with torch.no_grad():
            self.gain.fill_(1)
            values, target = self.by_channel(self(weight)).double(), self.by_channel(weight).double()
            energy = values.square().sum(1)
            best = (values * target).sum(1) / zeros_as_ones(energy)
            self.gain.copy_(torch.where(best > 0, best, torch.ones_like(best)))

    def squashed(self, x: Tensor) -> Tensor:
        """Return the weights in [-1, 1] (equation 9 without its rounding)."""
        bounded = (x / self.expanded(self.unit, x)).tanh()
        if x.numel() == 0:
            return bounded
        largest = zeros_as_ones(self.by_channel(bounded.abs()).amax(1))
        return bounded / self.expanded(largest, x)

    def transformed(self, x: Tensor) -> Tensor:
        return self.squashed(x) * self.expanded(positive(self.gain), x)

    def quantized(self, x: Tensor, features: int) -> Tensor:
        spec = self.spec
        count = x.numel() // len(self.unit)
        gain = with_scaled_gradient(positive(self.gain), gradient_scale(count, spec.quant_max))
        gain = self.expanded(gain, x)
        step = gain * (2 / ((1 << spec.bits) - 1))
        squashed = self.squashed(x)
        steps = squashed * (((1 << spec.bits) - 1) / 2)
        return with_gradient_of(steps, codes_of(squashed * gain, self.qparams())) * step

    def qparams(self) -> Qparams:
        scale = positive(self.gain.detach()) * (2 / ((1 << self.spec.bits) - 1))
        return Qparams(scale, torch.zeros_like(scale, dtype=torch.int32), self.spec)


@dataclass(frozen=True)
class DoReFa(Learned):
    """Squashed weights and activations with a constant clip.

    Args:
        ranges: gives the activations' clip.
    """

    ranges: Quantizer = field(default_factory=Mse)

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        check_seen(summary)
        quantizer = Squashed(summary.reach.clamp(min=1), spec)
        quantizer.fit_gain(weight)
        return quantizer

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        clipped = starting_clip(self.ranges, summary, spec)
        clipped.alpha.requires_grad_(False)
        return clipped
