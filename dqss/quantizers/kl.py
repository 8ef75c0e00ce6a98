"""KL range: clip where the quantized distribution of magnitudes stays nearest to the true one.

Migacz, "8-bit Inference with TensorRT" (GTC 2017). As in NVIDIA's pytorch-quantization toolkit the first bin, which
holds the exact zeros of a ReLU, takes its neighbour's count: zero is on every grid and must not decide the range.
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
class Kl(Quantizer):
    """Search over thresholds, evenly spaced up to the largest magnitude.

    Args:
        candidates: how many thresholds are tried.
    """

    candidates: int = 128

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates: {self.candidates} is not allowed. Give at least 1.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        magnitudes = summary.magnitudes
        # An affine grid gives all its levels to one sign where the values have one.
        one_sided = (summary.low >= 0) | (summary.high <= 0)
        kept = [
            self._bins_kept(histogram.double(), 2 ** (spec.bits if one and not spec.symmetric else spec.bits - 1))
            for histogram, one in zip(magnitudes, one_sided.tolist(), strict=True)
        ]
        return clip(summary, summary.limit * torch.tensor(kept, device=summary.limit.device) / magnitudes.shape[1])

    def _bins_kept(self, histogram: Tensor, levels: int) -> int:
        histogram = histogram[: int(histogram.nonzero().max()) + 1]
        # Zeros alone. Else at least half of the bins are left, more than any grid has levels: see TensorSummary.
        if len(histogram) == 1:
            return 1
        histogram[0] = histogram[1]
        stops: list[int] = torch.linspace(levels, len(histogram), self.candidates).round().long().unique().tolist()
        # A wider range wins a tie.
        return min(stops, key=lambda stop: (divergence(histogram, stop, levels), -stop))


def divergence(histogram: Tensor, stop: int, levels: int) -> float:
    """Return KL(P || Q): P the histogram with all beyond `stop` counted in the last bin kept, Q its quantization.

    Args:
        histogram: (B,) counts of magnitudes.
        stop: how many bins are kept; at least `levels`.
        levels: Q's number of levels; each spreads its mass evenly over its bins that are not empty.
    """
    kept = histogram[:stop]
    reference = kept.clone()
    reference[-1] += histogram[stop:].sum()
    level = torch.arange(stop, device=histogram.device) * levels // stop
    occupied = (reference > 0).double()
    mass = torch.zeros(levels, dtype=torch.float64, device=histogram.device).index_add_(0, level, kept)
    bins = torch.zeros_like(mass).index_add_(0, level, occupied)
    quantized = (mass / bins.clamp(min=1))[level] * occupied
    if not quantized.any():
        return float("inf")
    p = reference / reference.sum()
    q = quantized / quantized.sum()
    # Where only outliers fill the last bin, Q is empty there: a small floor keeps the penalty finite.
    return float(torch.where(p > 0, p * torch.log(p / q.clamp(min=1e-12)), torch.zeros_like(p)).sum())
