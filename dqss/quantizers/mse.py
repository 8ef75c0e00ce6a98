"""MSE range: clip where the mean squared quantization error is least.

Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference" (ICCVW 2019), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import check_candidates, shrink, shrunken_products

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class Mse(Quantizer):
    """Grid search over shrunken ranges: both extremes times k / candidates, k = 1 ... candidates.

    Args:
        candidates: how many ranges are tried.
    """

    candidates: int = 100

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        product, energy, square = shrunken_products(summary, spec, self.candidates)
        return shrink(summary, square - 2 * product + energy)
