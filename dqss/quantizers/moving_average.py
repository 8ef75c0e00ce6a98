"""Moving-average range: the batches' extremes, averaged with weights that fade.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), section 3.1; the weight of a new batch is that of torch.ao's MovingAverageMinMaxObserver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from dqss.quantizers.base import Quantizer

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class MovingAverage(Quantizer):
    """An extreme of one batch moves the range by a hundredth; of weights, seen once, it is the range of `minmax`."""

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        return summary.average_low, summary.average_high
