"""PACT: the clip of the activations is a parameter.

Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks" (arXiv 1805.06085), section 4:
y = clip(x, 0, alpha) by equation 1, spread over 2^k - 1 steps by equation 2; alpha's gradient is 1 where x is clipped
at alpha and 0 elsewhere, by equation 3. The paper lets an L2 penalty pull alpha down, as strong as that of the weights
(section 4.2): give its parameter group a weight decay. It quantizes weights as DoReFa does (section 5.2).

The paper clips what a ReLU would. Inputs that calibration saw below 0 are clipped to [-alpha, alpha] instead, on a grid
with as many levels below 0 as above; a value clipped at -alpha then gives alpha a gradient of -1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dqss.functional import Qparams, fake_quantize
from dqss.learned.base import Learned, LearnedQuantizer, positive, with_gradient_of
from dqss.learned.start import is_signed, middle, starting_step
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class Clipped(LearnedQuantizer):
    """Values in [0, alpha], or [-alpha, alpha], rounded to 2^bits levels.

    Args:
        alpha: (1,), to begin with.
        signed: whether to clip at -alpha.
    """

    def __init__(self, alpha: Tensor, signed: bool, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.alpha = nn.Parameter(alpha.detach().clone())
        self.signed = signed

    def surrogate(self, x: Tensor) -> Tensor:
        """Return `x` clipped, the function whose gradient training follows."""
        alpha = positive(self.alpha).to(x.dtype)
        below = torch.where(x <= -alpha, -alpha, x) if self.signed else x.clamp(min=0)
        return torch.where(x >= alpha, alpha, below)

    def quantized(self, x: Tensor, features: int) -> Tensor:
        return with_gradient_of(self.surrogate(x), fake_quantize(x.detach(), self.qparams()))

    def qparams(self) -> Qparams:
        steps = (1 << self.spec.bits) - 1
        scale = positive(self.alpha.detach()) * ((2 if self.signed else 1) / steps)
        zero_point = middle(self.spec) if self.signed else self.spec.quant_min
        return Qparams(scale, torch.full_like(scale, zero_point, dtype=torch.int32), self.spec)


@dataclass(frozen=True)
class Pact(Learned):
    """A learned clip, for activations.

    Args:
        ranges: gives the first clip.
    """

    weight_from: ClassVar[str | None] = "dorefa"

    ranges: Quantizer = field(default_factory=Mse)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        return starting_clip(self.ranges, summary, spec)


def starting_clip(ranges: Quantizer, summary: TensorSummary, spec: QuantSpec) -> Clipped:
    """Return the clip whose grid has the levels' distance that `ranges` finds."""
    signed = is_signed(summary, spec)
    steps = (1 << spec.bits) - 1
    alpha = starting_step(ranges, summary, spec, signed) * (steps / 2 if signed else steps)
    return Clipped(alpha, signed, spec)
