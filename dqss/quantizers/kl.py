"""KL range: clip where the quantized distribution of magnitudes stays nearest to the true one.

Migacz, "8-bit Inference with TensorRT" (GTC 2017). As in NVIDIA's pytorch-quantization toolkit the first bin, which
holds the exact zeros of a ReLU, takes its neighbour's count: zero is on every grid and must not decide the range; and
the search begins at a sixteenth of the largest magnitude (there bin 128 of 2048) whatever the bits. Below it a few
bins hold a few levels, nothing is lost among them, and the divergence may be least where nearly all is clipped. But
weights with few outliers, as those of depthwise layers after folding, need such a range: in Migacz's own words the
search begins at as many bins as there are levels, and `kl-tight` does so at any bits.
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
    """Search over all thresholds on the edge of a bin that is not empty.

    At an empty bin the divergence is infinite: what is clipped is counted there, where nothing was kept.

    Args:
        narrowest: the least range that is tried, as a share of the whole; never less than a bin for each level.
    """

    narrowest: float = 1 / 16

    def __post_init__(self) -> None:
        if not 0 <= self.narrowest <= 1:
            raise ValueError(f"narrowest: {self.narrowest} is not allowed. Give a number from 0 to 1.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        found = divergence_table(summary, spec)
        bins = found.shape[1]
        stops = torch.arange(1, bins + 1, device=found.device)
        whole = torch.where(found < torch.inf, stops, 0).amax(1, keepdim=True)
        found = torch.where(stops >= whole * self.narrowest, found, torch.inf)
        # A wider range wins a tie.
        kept = bins - found.flip(1).argmin(1)
        return clip(summary, summary.limit * kept / bins)


def divergence_table(summary: TensorSummary, spec: QuantSpec) -> Tensor:
    """Return the divergences of all thresholds; the summary keeps them.

    Returns:
        (C, B) float64, where the first 1, 2, ..., B bins of magnitudes are kept; infinite where the last of them is
        empty or there are fewer than levels.
    """
    if spec not in summary.divergences:
        histograms = summary.magnitudes.double()
        # Of zeros alone the first bin is kept. Else at least half of the bins are, more than any grid has levels: see
        # TensorSummary.
        others = histograms[:, 1:].sum(1) > 0
        histograms[:, 0] = histograms[:, 1]
        found = torch.full_like(histograms, torch.inf)
        found[~others, 0] = 0
        # An affine grid gives all its levels to one sign where the values have one.
        one_sided = ((summary.low >= 0) | (summary.high <= 0)) & (not spec.symmetric)
        for channel in others.nonzero().flatten().tolist():
            levels = 2 ** (spec.bits - 1 + int(one_sided[channel]))
            stops = histograms[channel, levels - 1 :].nonzero().flatten() + levels
            found[channel, stops - 1] = divergences(histograms[channel], stops, levels)
        summary.divergences[spec] = found
    return summary.divergences[spec]


def divergences(histogram: Tensor, stops: Tensor, levels: int) -> Tensor:
    """Return KL(P || Q) per stop: P the histogram with all beyond counted in the last bin kept, Q its quantization.

    In an even share of the bins each level spreads its mass over those that are not empty. As Q is constant there,
    the sum of p log q over bins is one over levels, and running sums give it for all stops at once.

    Args:
        histogram: (B,) float64 counts of magnitudes.
        stops: (S,) how many bins are kept; at least `levels`, the last of them not empty.
        levels: Q's number of levels.

    Returns:
        (S,) float64.
    """
    count = running(histogram)
    filled = running((histogram > 0).double())
    entropy = running(torch.special.xlogy(histogram, histogram))
    whole, last = count[-1], histogram[stops - 1]
    clipped = whole - count[stops]
    own = entropy[stops] - torch.special.xlogy(last, last) + torch.special.xlogy(last + clipped, last + clipped)
    # Bin i belongs to level i * levels // stop, which begins at the ceiling of level * stop / levels. In float32, where
    # all products are exact, it is five times as fast as in whole numbers.
    starts = torch.arange(levels + 1, device=stops.device, dtype=torch.float32) * stops[:, None]
    edges = (starts / levels).ceil_().int().flatten()
    mass, bins = (sums.index_select(0, edges).view(starts.shape).diff(dim=1) for sums in (count, filled))
    # A bin that is not empty counts at least one value, so the second clamp raises empty levels alone, and log 1 is 0.
    spread = (mass / bins.clamp_(min=1)).clamp_(min=1).log_()
    mass[:, -1] += clipped
    found: Tensor = (own - (mass * spread).sum(1)) / whole + torch.log(count[stops] / whole)
    return found


def running(x: Tensor) -> Tensor:
    """Return (B + 1,), the sums of the first 0, 1, ..., B values."""
    return torch.cat([x.new_zeros(1), x.cumsum(0)])
