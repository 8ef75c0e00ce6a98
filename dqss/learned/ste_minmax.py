"""STE min-max: the range is that of the weights, and a running average of that of the activations.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018), section 3.1: weights span their extremes, activations an exponential moving average of the batches' extremes.
Gradients are straight-through; the range is observed, not learned, so there are no parameters. The paper lets
activations run in full precision at first, until their ranges have settled; here they begin with what calibration saw.
The paper's weights have a zero point and never take the lowest code; here their grid is the protocol's symmetric one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from dqss.calibrate import AVERAGING, LARGEST
from dqss.functional import Qparams, fake_quantize, qparams_from_range
from dqss.learned.base import Learned, LearnedQuantizer, with_gradient_of
from dqss.learned.start import check_seen

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class ExtremesOfWeight(LearnedQuantizer):
    """The weight's own extremes, in evaluation too: the optimiser's last step came after the last call in training.

    None lies beyond them, so every gradient passes, also in the upper half step that a symmetric grid cuts off.

    Args:
        low: (C,), the extremes until the first call.
        high: (C,).
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.register_buffer("low", low.clone())
        self.register_buffer("high", high.clone())

    def quantized(self, x: Tensor, features: int) -> Tensor:
        low, high = extremes(self.by_channel(x))
        self.low.copy_(low)
        self.high.copy_(high)
        return with_gradient_of(x, fake_quantize(x.detach(), self.qparams()))

    def qparams(self) -> Qparams:
        return qparams_from_range(self.low, self.high, self.spec)


class AveragedExtremes(LearnedQuantizer):
    """A running average of the batches' extremes, which stands still in evaluation.

    Args:
        low: (1,), the averages to begin with.
        high: (1,).
        averaging: the weight of a new batch.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, averaging: float, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.register_buffer("low", low.clone())
        self.register_buffer("high", high.clone())
        self.averaging = averaging

    def quantized(self, x: Tensor, features: int) -> Tensor:
        if self.training and x.numel() > 0:
            low, high = extremes(self.by_channel(x))
            self.low.lerp_(low, self.averaging)
            self.high.lerp_(high, self.averaging)
        return fake_quantize(x, self.qparams())

    def qparams(self) -> Qparams:
        return qparams_from_range(self.low, self.high, self.spec)


def extremes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (C,) least and largest of (C, n) values, short of what a grid can hold."""
    rows = rows.detach().float()
    return rows.amin(1).clamp(-LARGEST, LARGEST), rows.amax(1).clamp(-LARGEST, LARGEST)


@dataclass(frozen=True)
class SteMinMax(Learned):
    """Observed ranges, for weights and activations of any sign.

    Args:
        averaging: the weight of a new batch in the activations' range.
    """

    averaging: float = AVERAGING

    def __post_init__(self) -> None:
        if not 0 < self.averaging <= 1:
            raise ValueError(f"averaging: {self.averaging} is not allowed. Give a number above 0, at most 1.")

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        check_seen(summary)
        return ExtremesOfWeight(summary.low, summary.high, spec)

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        check_seen(summary)
        return AveragedExtremes(summary.average_low, summary.average_high, self.averaging, spec)
