"""Percentile range: clip the few largest magnitudes.

Wu et al., "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation" (arXiv 2004.09602),
section 4 ("Percentile").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer, clip

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class Percentile(Quantizer):
    """The magnitude below which `percent` of all values lie, read off the histogram.

    Args:
        percent: above 0, at most 100.
    """

    percent: float = 99.9

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise ValueError(f"percent: {self.percent} is not allowed. Give a number above 0, at most 100.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        magnitudes = summary.magnitudes
        seen = magnitudes.cumsum(1).double()
        # In this order: 1000 * 99.9 / 100 is 999, but 1000 * (99.9 / 100) lies above, where the outliers are.
        wanted = seen[:, -1:] * self.percent / 100
        index = torch.searchsorted(seen, wanted).clamp(max=magnitudes.shape[1] - 1)
        before = seen.gather(1, index) - magnitudes.gather(1, index)
        # Within a bin the values are taken to be spread evenly.
        share = ((wanted - before) / magnitudes.gather(1, index).clamp(min=1)).clamp(0, 1)
        threshold = ((index + share) / magnitudes.shape[1]).squeeze(1) * summary.limit
        return clip(summary, threshold.float())
