"""MSE range: clip where the mean squared quantization error is least.

Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference" (ICCVW 2019), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import best_shrunken, check_candidates

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
        def cost(scale: Tensor, zero_point: Tensor) -> Tensor:
            levels, (count, total, square) = summary.per_level(scale, zero_point, spec)
            error: Tensor = square - 2 * levels * total + levels**2 * count
            return error.sum(2)

        return best_shrunken(summary, spec, self.candidates, cost)
