"""MSE range: clip where the mean squared quantization error is least.

Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference" (ICCVW 2019), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.functional import qparams_from_range
from dqss.quantizers.base import Quantizer

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
        if self.candidates < 1:
            raise ValueError(f"candidates: {self.candidates} is not allowed. Give at least 1.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        best = torch.full_like(summary.low, torch.inf, dtype=torch.float64)
        shrink = torch.ones_like(summary.low)
        for k in range(1, self.candidates + 1):
            factor = k / self.candidates
            error = summary.squared_error(qparams_from_range(summary.low * factor, summary.high * factor, spec))
            # A later, wider range wins a tie: it clips less of what calibration has not seen.
            better = error <= best
            best = torch.where(better, error, best)
            shrink = torch.where(better, factor, shrink)
        return summary.low * shrink, summary.high * shrink
